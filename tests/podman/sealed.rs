//! A secret that is sealed to a token, from stdin to a container.

use std::process::Command;

use psi_harness::Podman;
use psi_harness::SealedFixture;
use psi_harness::{Outcome, run};

#[test]
fn printed_command_registers_a_secret_for_a_container() {
    let fixture = SealedFixture::with_kryoptic();
    let _psid = fixture.start();
    let podman = Podman::of(&fixture.instance);
    let secret = b"a bootstrap secret\n";
    let command = fixture.driver(&["hsm", "store", "registry.pw"]).stdin(secret).text();
    assert!(command.ends_with("' | podman secret create registry.pw -\n"), "{command}");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &command]).env_clear().envs(podman.environment());
    let Outcome { code, stdout, stderr } = run(shell, b"");
    assert_eq!((code, stderr.as_str()), (0, ""));
    let id = String::from_utf8(stdout).unwrap();

    // The token is needed for the first lookup only.
    let script = "cp /run/secrets/registry.pw /out/mount";
    let got = podman.container(&["--secret", "registry.pw"], script);
    assert_eq!(got["mount"], secret);
    fixture.token.pull_out();
    let got = podman.container(&["--secret", "registry.pw"], script);
    assert_eq!(got["mount"], secret);
    assert_eq!(podman.ok(&["secret", "rm", "registry.pw"]), id.trim_end());
}
