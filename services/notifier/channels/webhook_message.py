"""What a webhook says, and how it is signed: Standard Webhooks 1.0.0 (https://www.standardwebhooks.com)."""

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from services.notifier.channels.channel import Job
from services.notifier.channels.records import event_url
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.gcn import known

PREFIX = "whsec_"
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64


def webhook_body(job: Job, *, site_url: str) -> str:
    """Return what is told, as JSON: what happened, to what, and the whole record. What is not known is left out.

    So is where files lie in our blob store, which nobody outside can reach; what they are, is told.

    The type is `burst.new`, `alert.update`, `coincidence.retraction` and so on.
    """
    happening = job.happening
    content = {
        "type": f"{happening.kind}.{job.action.lower()}",
        "timestamp": job.decided_at.isoformat(),
        "subject": happening.subject,
        "action": job.action.lower(),
        "revision": job.revision,
        "delivery_id": job.delivery_id,
        "is_test": happening.is_test,
        "topic": happening.topic,
        "url": event_url(happening, site_url=site_url),
        "data": _without_addresses(json.loads(happening.record.model_dump_json())),
    }
    return json.dumps(known(content), ensure_ascii=False, allow_nan=False)


def _without_addresses(value: Any) -> Any:
    match value:
        case dict():
            is_blob = value.keys() == BlobRef.model_fields.keys()
            return {name: _without_addresses(part) for name, part in value.items() if not (is_blob and name == "uri")}
        case list():
            return [_without_addresses(part) for part in value]
    return value


def read_secret(secret: str) -> bytes:
    """Return the key that a secret, `whsec_` and base64, stands for.

    Raises
    ------
    InvalidInputError
        It is not base64, or the key is not 24 to 64 bytes long. The secret itself is not told.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        expected = f"{PREFIX} and the base64 of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} random bytes"
        raise InvalidInputError("secret", "(hidden)", expected) from None
    return key


def sign(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message: `v1,` and the base64 of HMAC-SHA256 over id, time (Unix, s) and body."""
    signed = b".".join([message_id.encode(), str(timestamp).encode(), body])
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signed_headers(keys: list[bytes], *, message_id: str, timestamp: int, body: bytes) -> dict[str, Any]:
    """Return the headers of a message, signed with each key: while keys are changed, the old one still holds."""
    signatures = [sign(key, message_id=message_id, timestamp=timestamp, body=body) for key in keys]
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
