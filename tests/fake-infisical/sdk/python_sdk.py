"""Drives the fake with the official Python SDK and prints what it saw, as one JSON object."""

import json
import os

from infisical_sdk import InfisicalSDKClient
from infisical_sdk.infisical_requests import APIError

URL = os.environ["INFISICAL_URL"]
PROJECT = os.environ["INFISICAL_PROJECT_ID"]
CLOSED = os.environ["INFISICAL_CLOSED_PROJECT_ID"]
CLIENT_ID = os.environ["INFISICAL_CLIENT_ID"]
CLIENT_SECRET = os.environ["INFISICAL_CLIENT_SECRET"]


def refused(call):
    """How the SDK reports the server's refusal."""
    try:
        call()
    except APIError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "error": error.response["error"],
            "message": error.response["message"],
        }
    raise SystemExit("the call should have been refused")


def new_client():
    # The SDK caches for a minute unless told not to
    return InfisicalSDKClient(host=URL, cache_ttl=None)


def merged(answer):
    """Imports below the folder's own secrets, the last import first in rank."""
    secrets = {}
    for entry in answer.imports:
        # The SDK leaves imported secrets as plain dicts
        secrets.update({s["secretKey"]: s["secretValue"] for s in entry.secrets})
    secrets.update({s.secretKey: s.secretValue for s in answer.secrets})
    return secrets


def main():
    client = new_client()
    login = client.auth.universal_auth.login(CLIENT_ID, CLIENT_SECRET)
    place = {"environment_slug": "prod", "secret_path": "/myapp", "project_id": PROJECT}
    secrets = client.secrets
    seen = {"login": {"expiresIn": login.expiresIn, "tokenType": login.tokenType}}

    seen["list"] = merged(secrets.list_secrets(**place))
    deep = secrets.list_secrets(recursive=True, **place)
    seen["recursive"] = sorted([s.secretPath, s.secretKey] for s in deep.secrets)
    seen["get"] = secrets.get_secret_by_name("DB_HOST", **place).secretValue
    imported = secrets.get_secret_by_name("PORT", **place)
    seen["imported"] = [imported.secretPath, imported.secretValue]

    created = secrets.create_secret_by_name("SDK", secret_value=" one\n\n", **place)
    seen["created"] = [created.secretValue, created.version]
    updated = secrets.update_secret_by_name("SDK", secret_value="two", **place)
    seen["updated"] = [updated.secretValue, updated.version]
    deleted = secrets.delete_secret_by_name("SDK", **place)
    seen["deleted"] = [deleted.secretValue, deleted.version]

    folder = client.folders.create_folder("python", "prod", PROJECT, path="/myapp")
    seen["folder"] = [folder.name, folder.path]
    below = client.folders.list_folders(PROJECT, "prod", "/myapp")
    seen["folders"] = [f.name for f in below.folders]

    login_with = new_client().auth.universal_auth.login
    seen["bad_secret"] = refused(lambda: login_with(CLIENT_ID, "wrong"))
    closed = {**place, "project_id": CLOSED}
    seen["closed"] = refused(lambda: secrets.list_secrets(**closed))
    seen["unknown"] = refused(lambda: secrets.get_secret_by_name("NOPE", **place))
    print(json.dumps(seen, sort_keys=True))


main()
