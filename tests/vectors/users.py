#!/usr/bin/env python3
"""Writes the vectors of users' registrations, by the formats' descriptions and not by psid's code.

Run it in this directory; it requires python3-cryptography. The files are never rewritten once a psid that wrote them was
released: a new version of a format gets a script and files of its own.
"""

import hashlib
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY = pathlib.Path("key").read_bytes()
LITERAL_ID = "0f1e2d3c4b5a69788796a5b4c"
REFERENCE_ID = "0f1e2d3c4b5a69788796a5b4d"
UID = 1000
VALUE = b"a user's literal: \x00\r\n bytes"
TPM = 1


def key_id(key):
    return hashlib.sha256(b"psi key id v1\0" + key).digest()[:16]


def literal(uid, value, header_uid=None, magic=b"PSIU", key=KEY, secret_id=LITERAL_ID):
    """A sealed file of `uid`, whose header may name another one."""

    def header(uid):
        nonce = hashlib.sha256(b"the nonce of a vector").digest()[:12]
        part = b""
        owner = struct.pack(">I", uid) if magic == b"PSIU" else b""
        return magic + bytes([2, TPM]) + owner + key_id(key) + struct.pack(">H", len(part)) + part + nonce

    nonce = header(uid)[-12:]
    sealed = AESGCM(key).encrypt(nonce, value, header(uid) + secret_id.encode())
    return header(uid if header_uid is None else header_uid) + sealed


def reference(uid, text):
    digest = hashlib.sha256(f"psi reference 2\0{REFERENCE_ID} {uid} ".encode() + text).hexdigest()
    return f"psi-reference 2 {REFERENCE_ID} {uid} {digest}\n".encode() + text


def write(name, content):
    pathlib.Path(name).write_bytes(content)


good = literal(UID, VALUE)
write("users-literal-v2-tpm.enc", good)
text = pathlib.Path("reference-1").read_bytes().split(b"\n", 1)[1]
write("reference-2", reference(UID, text))

roots = pathlib.Path("literal-v2-tpm.enc").read_bytes()
bad = "malformed-literals/users-"
write(bad + "other-uid.enc", literal(UID, VALUE, header_uid=UID + 1))
write(bad + "uid-of-root.enc", literal(UID, VALUE, header_uid=0))
write(bad + "as-roots.enc", b"PSIL" + good[4:])
write(bad + "without-its-uid.enc", b"PSIL" + good[4:6] + good[10:])
write(bad + "roots-with-a-uid.enc", b"PSIU" + roots[4:6] + struct.pack(">I", UID) + roots[6:])
write(bad + "truncated-uid.enc", good[:8])
write(bad + "of-another-id.enc", literal(UID, VALUE, secret_id=REFERENCE_ID))
write(bad + "other-key.enc", literal(UID, VALUE, key=bytes(32)))
