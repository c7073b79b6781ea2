"""Every error that Groundswell raises on purpose.

A message gives the value, the bound and the cure; a command prints it as one line.

::

    GroundswellError
    ├── BadRecordError            a record that cannot be read or must not be believed
    ├── ContractError             a schema, or two of them that do not fit
    ├── SettingsError             a setting or a command's option
    ├── CampaignError             a campaign's definition
    │   └── ExpressionError       its segment expression
    ├── MappingError              a log or its mapping, for replay and import
    ├── PolicyError               a policy's parameters, state or input
    │   └── PropensityError       a probability that no draw can have had
    ├── EvaluationError           logged data that an estimator cannot use
    ├── EncoderError              training data, a key, or hashed features
    │   └── ReleaseError          a release that is refused
    └── BusError                  Kafka
        ├── BrokerError           none there, or the embedded one does not start
        ├── TopicError            missing, or of another shape than the contract's
        └── ShardError            state that cannot be continued safely
            └── FencedError       another worker owns it now
"""

__all__ = [
    "BadRecordError",
    "BrokerError",
    "BusError",
    "CampaignError",
    "ContractError",
    "EncoderError",
    "EvaluationError",
    "ExpressionError",
    "FencedError",
    "GroundswellError",
    "MappingError",
    "PolicyError",
    "PropensityError",
    "ReleaseError",
    "SettingsError",
    "ShardError",
    "TopicError",
]


class GroundswellError(Exception):
    """What a user can act on. The root of the tree."""


class BadRecordError(GroundswellError):
    """A record that cannot be read, or whose content must not be believed."""


class ContractError(GroundswellError):
    """A schema that is wrong, or two that do not fit each other."""


class SettingsError(GroundswellError):
    """A setting or an option that cannot be used."""


class CampaignError(GroundswellError):
    """A campaign definition that cannot be run."""


class ExpressionError(CampaignError):
    """A segment expression that cannot be understood."""


class MappingError(GroundswellError):
    """A log, or the mapping of its columns, that cannot be read."""


class PolicyError(GroundswellError):
    """A policy's parameters, state or input."""


class PropensityError(PolicyError):
    """A probability that no draw can have had."""


class EvaluationError(GroundswellError):
    """Logged data that an estimator cannot use."""


class EncoderError(GroundswellError):
    """Training data, a key, or hashed features that cannot be used."""


class ReleaseError(EncoderError):
    """A release of an encoder that is refused: the one in use goes on."""


class StoreError(ReleaseError):
    """A store of releases that does not answer, or lacks a file: later it may have it."""


class BusError(GroundswellError):
    """Kafka, or the way to it."""


class BrokerError(BusError):
    """No broker answers, or the embedded one does not start."""


class TopicError(BusError):
    """A topic is missing or has another shape than the contract says."""


class ShardError(BusError):
    """State that cannot be continued safely."""


class FencedError(ShardError):
    """Another worker owns this shard now."""
