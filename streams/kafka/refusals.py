"""What a broker refuses, and how confluent-kafka tells it."""

from confluent_kafka import KafkaError, KafkaException, Producer

__all__ = ["FOR_GOOD", "kafka_error", "transaction_error"]

ABORT_S = 2.0  # for the abort of what is given up: the next owner's fence aborts it as well
FOR_GOOD = {  # what a broker refuses however often it is asked, and what helps
    KafkaError.MSG_SIZE_TOO_LARGE: "raise the topic's max.message.bytes: `groundswell topics "
    "ensure` says to what",
    KafkaError.RECORD_LIST_TOO_LARGE: "raise the topic's max.message.bytes: `groundswell topics "
    "ensure` says to what",
    KafkaError.INVALID_RECORD: "see the broker's log for what it has against the record",
    KafkaError.POLICY_VIOLATION: "see the broker's policies",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant this user WRITE on the topic",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant this user WRITE on the "
    "transactional id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant this user IDEMPOTENT_WRITE on the cluster",
}


def kafka_error(error: BaseException) -> KafkaError | None:
    """What Kafka says in an exception of confluent-kafka; None if it says nothing.

    What ends a producer is raised by whichever call comes next, and while it is pending that call
    goes on to tell of each record that was lost: a SystemError comes of it, which has the first
    exception as its cause, or has lost it.
    """
    for told in (error, error.__cause__, error.__context__):
        if isinstance(told, KafkaException):
            found: KafkaError = told.args[0]
            return found
    return None


def transaction_error(producer: Producer) -> KafkaError | None:
    """What ended a transactional producer, where sends and deliveries no more than hint at it.

    It aborts the open transaction: that tells, and a producer that nothing has ended tells None.
    """
    try:
        producer.abort_transaction(ABORT_S)
    except (KafkaException, SystemError) as told:
        return kafka_error(told)
    return None
