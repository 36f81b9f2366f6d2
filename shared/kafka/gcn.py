"""How to reach NASA GCN's Kafka."""

from pathlib import Path
from typing import Any

import certifi
from pydantic import SecretStr


def gcn_client_config(
    client_id: str, client_secret: SecretStr, *, domain: str = "gcn.nasa.gov", ssl_ca_location: Path | None = None
) -> dict[str, Any]:
    """Return librdkafka settings that reach the broker; librdkafka itself fetches and renews the token (OIDC).

    Parameters
    ----------
    client_id, client_secret
        The credential from the GCN web site.
    domain
        Also test.gcn.nasa.gov and dev.gcn.nasa.gov.
    ssl_ca_location
        PEM file of the authorities; certifi's without it.
    """
    authorities = str(ssl_ca_location or certifi.where())
    return {
        "bootstrap.servers": f"kafka.{domain}",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": authorities,
        "https.ca.location": authorities,
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": client_id,
        "sasl.oauthbearer.client.secret": client_secret.get_secret_value(),
        "sasl.oauthbearer.token.endpoint.url": f"https://auth.{domain}/oauth2/token",
    }
