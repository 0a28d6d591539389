//! The committed code matches the proto file.

use std::path::Path;

/// If this variable is set, the test writes the generated code instead of comparing it.
const UPDATE: &str = "UPDATE_GENERATED";

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch of `make generate`")]
fn committed_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile(["psi/v1/psi.proto"], [root]).unwrap();
    tonic_prost_build::configure()
        .out_dir(out.path())
        // The programs have transports of their own.
        .build_transport(false)
        .codec_path("crate::codec::Codec")
        // The daemon sends a value from the memory of its cache.
        .bytes(".psi.v1.LookupResponse.value")
        // Generated Debug would print values into logs and panics.
        .skip_debug(
            [
                "ImportRequest",
                "ImportedSecret",
                "LookupResponse",
                "MakeRecoveryKeyResponse",
                "RecoverRequest",
                "SealRequest",
                "StoreRequest",
            ]
            .map(|message| format!("psi.v1.{message}")),
        )
        .compile_fds(files)
        .unwrap();

    let generated = std::fs::read_to_string(out.path().join("psi.v1.rs")).unwrap();
    let committed = root.join("src/psi.v1.rs");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&committed, generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(committed).unwrap();
    assert!(committed == generated, "psi.v1.rs is not current: run `make generate` and commit it");
}
