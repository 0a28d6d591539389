//! psid as a container: the image is complete, and nothing is downloaded.

use std::process::Command;

use serde_json::json;

use super::{built, succeeds};
use psi_harness::Podman;
use psi_harness::{FakeInfisical, Instance, eventually, id, reference, repository};

#[test]
fn psid_in_a_container_serves_the_host() {
    let mut infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let podman = Podman::of(&instance);
    let built = built();
    let mut build = Command::new(repository().join("contrib/container/build.sh"));
    build.envs(podman.environment()).env("DIST", built.path());
    succeeds(build);

    for directory in [instance.state(), instance.run(), instance.run_directory()] {
        std::fs::create_dir_all(directory).unwrap();
    }
    let mut options = Vec::new();
    for (on_host, inside) in [
        (instance.config().parent().unwrap().to_owned(), "/etc/psi:ro"),
        (instance.state(), "/var/lib/psi"),
        (instance.run(), "/run/psi"),
        (instance.run_directory(), "/run/psid"),
        (instance.credentials(), "/run/credentials/psid:ro"),
    ] {
        options.push(format!("--volume={}:{inside}", on_host.display()));
    }
    let mut args: Vec<&str> = vec!["run", "--detach", "--name=psid", "--network=host"];
    args.extend(["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]);
    args.push("--env=CREDENTIALS_DIRECTORY=/run/credentials/psid");
    args.extend(options.iter().map(String::as_str));
    args.push("localhost/psi:latest");
    podman.ok(&args);

    eventually("psid to serve", || (instance.driver(&["health"]).run().code == 0).then_some(()));
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    // Encrypted under the key from the host's systemd, and present after a restart without
    // Infisical.
    eventually("the cache to be written", || instance.cache().exists().then_some(()));
    podman.ok(&["stop", "psid"]);
    infisical.kill();
    podman.ok(&["start", "psid"]);
    eventually("psid to serve", || (instance.driver(&["health"]).run().code == 0).then_some(()));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    podman.ok(&["rm", "--force", "psid"]);
}
