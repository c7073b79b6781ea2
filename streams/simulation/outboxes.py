"""Where the reference sender's notifications go: a mail relay, or a webhook."""

import hashlib
import hmac
import http.client
import json
import re
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate
from typing import Protocol
from urllib.parse import urlsplit

from schemas.errors import SettingsError
from schemas.records import Decision

__all__ = [
    "BusyError",
    "Outbox",
    "RefusedError",
    "SmtpOutbox",
    "WebhookOutbox",
    "signature",
]

TIMEOUT_S = 10.0
# One plain address: more could slip in others' names, or headers.
ADDRESS = re.compile(r"[^\s<>,;:\"()\[\]\\@]{1,64}@[^\s<>,;:\"()\[\]\\@]{1,255}")


# What these say is logged: nothing of the user's may be in it, and server's texts repeat addresses.
class RefusedError(Exception):
    """The receiver will never take this notification."""


class BusyError(Exception):
    """The receiver answered that it does not take this notification now."""


class Outbox(Protocol):
    """Where notifications go."""

    def send(self, decision: Decision) -> None:
        """Hand a notification over.

        Raises
        ------
        RefusedError, BusyError
            See there.
        OSError
            Nobody answers.
        SettingsError
            The receiver takes nothing at all from this sender.
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class SmtpOutbox:
    """Emails, through a relay that takes them from this host.

    Subject and text are the template's variables `subject`, `text` and `link`.

    Parameters
    ----------
    tls
        Where given, STARTTLS is a must.
    """

    def __init__(
        self, host: str, port: int, sender: str, *, tls: ssl.SSLContext | None = None
    ) -> None:
        if not ADDRESS.fullmatch(sender):
            raise SettingsError(f"--from takes one plain address, got {sender!r}: a@example.org")
        self._host, self._port, self._sender, self._tls = host, port, sender, tls
        self._connection: smtplib.SMTP | None = None

    def send(self, decision: Decision) -> None:
        """Hand an email to the relay."""
        email = self._email(decision)
        connection = self._connection = self._connection or self._connect()
        try:
            connection.send_message(email, self._sender, [decision.contact or ""])
        except smtplib.SMTPRecipientsRefused as error:
            raise self._judged(next(iter(error.recipients.values()))[0]) from None
        except smtplib.SMTPSenderRefused as error:
            if error.smtp_code < 500 or error.smtp_code == 552:  # 552: this one is too large
                raise self._judged(error.smtp_code) from None
            raise SettingsError(
                f"the relay refuses mail from {self._sender} ({error.smtp_code}): check --from"
            ) from None
        except smtplib.SMTPDataError as error:
            raise self._judged(error.smtp_code) from None
        except smtplib.SMTPNotSupportedError:
            raise RefusedError("the relay takes no such address (no SMTPUTF8)") from None
        except OSError:
            self.close()
            raise

    def _judged(self, code: int) -> RefusedError | BusyError:
        told = f"the relay answered {code}"
        if code >= 500:
            return RefusedError(told)
        self.close()  # 421 has ended the connection; for the others a new one does no harm
        return BusyError(told)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> smtplib.SMTP:
        connection = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
        try:
            if self._tls is not None:
                connection.starttls(context=self._tls)
        except BaseException as error:
            connection.close()
            if isinstance(error, smtplib.SMTPNotSupportedError | ssl.SSLCertVerificationError):
                raise SettingsError(
                    f"no STARTTLS with {self._host}:{self._port}: {error}: mend the relay's "
                    "certificate, or go without --starttls"
                ) from error
            raise
        return connection

    def _email(self, decision: Decision) -> EmailMessage:
        if not ADDRESS.fullmatch(decision.contact or ""):
            raise RefusedError("the contact is no email address")
        subject = " ".join(decision.variables.get("subject", "").split())
        parts = [decision.variables.get(name, "") for name in ("text", "link")]
        if not subject or not any(parts):
            raise RefusedError("the template has no variables subject and text")
        email = EmailMessage()
        try:
            email["From"], email["To"], email["Subject"] = self._sender, decision.contact, subject
            email["Date"] = formatdate()
            email["Message-ID"] = f"<{decision.decision_id}@{self._sender.rpartition('@')[2]}>"
            email["X-Groundswell-Decision"] = decision.decision_id
            email.set_content("\n\n".join(part for part in parts if part) + "\n")
        except (ValueError, IndexError):  # what the email package makes of strange characters
            raise RefusedError("the contact or the variables make no email") from None
        return email


class WebhookOutbox:
    """JSON, posted to a URL and signed.

    Parameters
    ----------
    secret
        Shared with the receiver, which checks `X-Groundswell-Signature`.
    """

    def __init__(self, url: str, secret: bytes) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise SettingsError(
                f"--webhook takes http(s)://host[:port]/path, got {parts.scheme}://"
                f"{parts.hostname or ''}: no user or password in it"
            )
        self._secret = secret
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_S)
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)

    def send(self, decision: Decision) -> None:
        """Post a notification."""
        body = json.dumps(
            {
                "decision_id": decision.decision_id,
                "campaign_id": decision.campaign_id,
                "user_id": decision.user_id,
                "action": decision.action,
                "channel": decision.channel,
                "contact": decision.contact,
                "variables": decision.variables,
                "expires_at_ms": decision.expires_at_ms,
            }
        ).encode()
        try:
            headers = {
                "Content-Type": "application/json",
                "X-Groundswell-Decision": decision.decision_id,
                "X-Groundswell-Signature": signature(self._secret, body),
            }
            self._connection.request("POST", self._target, body, headers)
            answer = self._connection.getresponse()
            answer.read(65_536)
            if not answer.isclosed():
                self._connection.close()  # too long an answer to read before the next one
        except OSError:
            self.close()
            raise
        except http.client.HTTPException as error:
            self.close()
            raise ConnectionError(f"no HTTP: {type(error).__name__}") from None
        except ValueError:
            raise RefusedError("the decision's id makes no header") from None
        self._judge(answer.status)

    def _judge(self, status: int) -> None:
        told = f"the webhook answered {status}"
        if 200 <= status < 300:
            return
        if status in (401, 403):
            raise SettingsError(f"{told}: check GROUNDSWELL_WEBHOOK_SECRET, and the URL")
        if status >= 500 or status in (408, 425, 429):
            raise BusyError(told)
        raise RefusedError(told)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()


def signature(secret: bytes, body: bytes) -> str:
    """What `X-Groundswell-Signature` holds: HMAC-SHA256 of the body."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
