//! The way back to the file driver for a user's own podman and psid.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use psi_harness::{FakeInfisical, Instance, Outcome, Psid, copy_program, reference, run};

const USER: [&str; 4] = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups"];

/// A user with a psid and a podman.
struct User {
    _infisical: FakeInfisical,
    instance: Instance,
    psid: Option<Psid>,
}

impl User {
    fn new() -> Self {
        let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "from the provider"}}));
        let instance = Instance::of(&infisical);
        let home = instance.directory().join("home");
        fs::create_dir_all(home.join(".config/containers")).unwrap();
        fs::create_dir_all(home.join("run")).unwrap();
        let config = |name: &str, text: &str| {
            fs::write(home.join(".config/containers").join(name), text).unwrap();
        };
        config("storage.conf", "[storage]\ndriver = \"vfs\"\n");
        config(
            "containers.conf",
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\n",
        );
        fs::create_dir(instance.directory().join("bin")).unwrap();
        for name in ["psid", "psi-driver", "psictl"] {
            copy_program(name, &instance.directory().join("bin").join(name));
        }
        for directory in [instance.state(), instance.run(), instance.run_directory()] {
            fs::create_dir_all(directory).unwrap();
        }
        let mut chown = Command::new("chown");
        chown.args(["-R", "4321:4321"]).arg(instance.directory());
        assert_eq!(run(chown, b"").code, 0);
        let psid = instance.psid().with_program(&instance.directory().join("bin/psid"));
        let psid = Some(psid.through(&USER).start());
        Self { _infisical: infisical, instance, psid }
    }

    /// Runs a command as the user.
    fn run(&self, args: &[&str], stdin: &str) -> Outcome {
        let mut command = Command::new(USER[0]);
        command.args(&USER[1..]).args(args).env_clear().envs(self.environment());
        command.current_dir("/");
        run(command, stdin.as_bytes())
    }

    #[track_caller]
    fn ok(&self, args: &[&str], stdin: &str) -> String {
        let outcome = self.run(args, stdin);
        assert_eq!(outcome.code, 0, "{args:?}: {}{}", outcome.stdout_text(), outcome.stderr);
        outcome.stdout_text()
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let home = self.home();
        let mut path: OsString = self.instance.directory().join("bin").into();
        path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        vec![
            ("PATH", path),
            ("XDG_RUNTIME_DIR", home.join("run").into()),
            ("HOME", home.into()),
            ("PSI_SOCKET", self.instance.socket().into()),
            ("PSI_CONFIG", self.instance.config().into()),
            ("PSI_STATE_DIR", self.instance.state().into()),
            ("PSI_RUN_DIR", self.instance.run_directory().into()),
        ]
    }

    fn home(&self) -> PathBuf {
        self.instance.directory().join("home")
    }
}

#[test]
fn rootless_secrets_go_back_to_the_users_file_driver() {
    let mut user = User::new();
    let program = user.instance.directory().join("bin/psi-driver").display().to_string();
    user.ok(&["psictl", "install", "--program", &program], "");
    user.ok(&["podman", "secret", "create", "literal", "-"], "hunter2");
    user.ok(&["podman", "secret", "create", "reference", "-"], &reference("/myapp", "A"));
    let text = user.run(&["psictl", "dependents"], "").stdout_text();
    let store = user.home().join(".local/share/containers/storage");
    assert_eq!(text, format!("psi serves 2 secrets of {}: literal, reference\n", store.display()));
    let report = user.ok(&["psictl", "migrate", "--to", "file", "--yes", "--json"], "");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["left"], json!({}), "{report}");
    let drop_in = user.home().join(".config/containers/containers.conf.d/50-psi.conf");
    assert_eq!(report["drop_in"], json!(drop_in.display().to_string()), "{report}");

    user.psid.take().unwrap().terminate();
    assert_eq!(user.ok(&["psictl", "dependents"], ""), "no podman secret depends on psi\n");
    for name in ["literal", "reference"] {
        let driver = ["podman", "secret", "inspect", "--format", "{{.Spec.Driver.Name}}", name];
        assert_eq!(user.ok(&driver, "").trim(), "file");
    }
    // Podman's own driver reads and writes what it was given.
    fs::remove_file(drop_in).unwrap();
    user.ok(&["podman", "secret", "create", "own", "-"], "own value");
    user.ok(&["podman", "secret", "rm", "reference"], "");
    let values = fs::read(store.join("secrets/filedriver/secretsdata.json")).unwrap();
    let values: Value = serde_json::from_slice(&values).unwrap();
    let mut values: Vec<&Value> = values.as_object().unwrap().values().collect();
    values.sort_by_key(ToString::to_string);
    assert_eq!(values, [&json!("aHVudGVyMg=="), &json!("b3duIHZhbHVl")]);
}
