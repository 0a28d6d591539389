//! `install`: the drop-in that makes psi podman's secret driver.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use psi_harness::{Driver, Instance};

/// A user with a home of its own, so that the test does not change the host.
const USER: u32 = 34_567;

fn home(instance: &Instance) -> PathBuf {
    let home = instance.directory().join("home");
    if !home.exists() {
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(USER), Some(USER)).unwrap();
    }
    home
}

fn install(instance: &Instance, more: &[&str]) -> Driver {
    let args = [&["install", "--force"], more].concat();
    instance.driver(&args).env("HOME", home(instance)).user(instance, USER, USER)
}

/// N9: the Python PSI's drop-in held a bearer token, visible in `ps` and `podman secret inspect`.
/// Podman copies these commands into every secret at its creation, so no byte of them may change.
#[test]
fn n9_drop_in_matches_the_documents_and_has_no_secret() {
    let text = Instance::empty().driver(&["install", "--stdout"]).text();
    let settings: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        settings,
        [
            "[secrets]",
            "driver = \"shell\"",
            "[secrets.opts]",
            "lookup = \"exec /usr/bin/psi-driver lookup\"",
            "store  = \"exec /usr/bin/psi-driver store\"",
            "delete = \"exec /usr/bin/psi-driver delete\"",
            "list   = \"exec /usr/bin/psi-driver list\"",
        ]
    );
}

/// N19: the Python PSI wrote its drop-in in place: podman could read half of it.
#[test]
fn n19_drop_in_is_replaced_whole_and_only_if_it_differs() {
    let instance = Instance::empty();
    let path = home(&instance).join(".config/containers/containers.conf.d/50-psi.conf");
    let wrote = install(&instance, &[]).run();
    assert_eq!(wrote.code, 0, "{}", wrote.stderr);
    let output = String::from_utf8(wrote.stdout).unwrap();
    assert!(output.starts_with(&format!("wrote {}\n", path.display())), "{output}");
    assert_eq!(fs::read_to_string(&path).unwrap(), install(&instance, &["--stdout"]).text());
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o644, USER));
    let again = String::from_utf8(install(&instance, &[]).run().stdout).unwrap();
    assert!(again.starts_with(&format!("{} is up to date\n", path.display())), "{again}");
    assert_eq!(fs::metadata(&path).unwrap().ino(), meta.ino());
    // A reader of the old file keeps all of it: the new one is another file.
    fs::write(&path, "# by hand").unwrap();
    assert_eq!(install(&instance, &[]).run().code, 0);
    assert_ne!(fs::metadata(&path).unwrap().ino(), meta.ino());
    assert_eq!(fs::read_to_string(&path).unwrap(), install(&instance, &["--stdout"]).text());
    let directory = path.parent().unwrap();
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "no remnant");
}

#[test]
fn unwritable_drop_in_is_reported() {
    let instance = Instance::empty();
    fs::set_permissions(home(&instance), fs::Permissions::from_mode(0o500)).unwrap();
    let refused = install(&instance, &[]).run();
    let line = refused.stderr.lines().last().unwrap();
    assert_eq!(refused.code, 74, "{line}");
    assert!(line.contains("50-psi.conf: Permission denied"), "{line}");
    assert!(line.contains("; run it as the owner of podman's config"), "{line}");
}

/// Podman passes the command to `sh`.
#[test]
fn program_path_that_a_shell_splits_is_refused() {
    let instance = Instance::empty();
    for program in ["psi-driver", "/opt/a b/psi-driver", "/opt/$(id)", "/a;b", "/a\"b", "/a\nb"] {
        let line = instance.driver(&["install", "--stdout", "--program", program]).fails(2);
        assert!(line.contains("is not an absolute path of plain characters"), "{line}");
    }
    let text = instance.driver(&["install", "--stdout", "--program", "/opt/psi/psi-driver"]).text();
    assert_eq!(text.matches("\"exec /opt/psi/psi-driver ").count(), 4);
}
