//! `psictl render`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::json;

use super::{myapp, names, ram};

#[test]
fn render_writes_whole_private_files_only_on_change() {
    let (infisical, instance, _psid) =
        myapp(&json!({"A": "1\n", "tls.pem": "a\0b", "GOES": "3", "a b": "4", "../x": "5"}));
    let ram = ram();
    let directory = ram.path().join("secrets");
    let render = |more: &[&str]| {
        let args = [&["render", directory.to_str().unwrap()], more].concat();
        instance.driver(&args).run()
    };
    let outcome = render(&[]);
    assert_eq!(outcome.code, 1, "something was left out: {}", outcome.stderr);
    assert!(
        outcome.stderr.contains("the key '../x' cannot be the name of a file here"),
        "{}",
        outcome.stderr
    );
    assert_eq!(names(&directory), ["A", "GOES", "a b", "tls.pem"]);
    assert_eq!(fs::read(directory.join("A")).unwrap(), b"1\n");
    assert_eq!(fs::read(directory.join("tls.pem")).unwrap(), b"a\0b");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let file = |name: &str| fs::metadata(directory.join(name)).unwrap();
    assert_eq!(file("A").permissions().mode() & 0o777, 0o400);
    fs::write(directory.join("mine"), "stays").unwrap();
    let before = (file("A").ino(), file("tls.pem").ino());
    render(&[]);
    assert_eq!((file("A").ino(), file("tls.pem").ino()), before);
    infisical.put("/myapp", "A", "2");
    infisical.remove("/myapp", "GOES");
    instance.driver(&["cache", "refresh"]).ok();
    let outcome = render(&["--mode", "0440", "--owner", "1234:5678"]);
    let output = String::from_utf8(outcome.stdout).unwrap();
    let expected = format!("3 secrets in {}, 3 of them new or changed\n", directory.display());
    assert_eq!(output, expected);
    assert_eq!(names(&directory), ["A", "a b", "mine", "tls.pem"]);
    assert_eq!(fs::read(directory.join("A")).unwrap(), b"2");
    // The value differs, or only the mode and the owner.
    for name in ["A", "tls.pem"] {
        let changed = file(name);
        assert_eq!((changed.mode() & 0o777, changed.uid(), changed.gid()), (0o440, 1234, 5678));
    }
}

#[test]
fn render_replaces_other_files_and_refuses_other_directories() {
    let (_infisical, instance, _psid) = myapp(&json!({"A": "1", "B": "2"}));
    let ram = ram();
    let directory = ram.path().join("secrets");
    let render = instance.driver(&["render", directory.to_str().unwrap()]);
    render.ok();
    // A link to the right value, a pipe without a writer, and a pipe in place of the list.
    let elsewhere = ram.path().join("elsewhere");
    fs::rename(directory.join("A"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory.join("A")).unwrap();
    for name in ["B", ".psi-rendered"] {
        fs::remove_file(directory.join(name)).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(directory.join(name)).status();
        assert!(fifo.unwrap().success());
    }
    render.ok();
    for (name, value) in [("A", "1"), ("B", "2"), (".psi-rendered", "A\nB\n")] {
        assert!(fs::symlink_metadata(directory.join(name)).unwrap().is_file(), "{name}");
        assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), value);
    }
    let refused = || render.fails(65);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(refused().contains("is writable for others (mode 1777)"));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&directory, Some(1234), None).unwrap();
    assert!(refused().contains("belongs to uid 1234"));
}

/// The owner of the files can open the directory, and only that user, before and after a second run.
#[test]
fn render_gives_the_directory_to_the_owner_of_the_files() {
    let (infisical, instance, _psid) = myapp(&json!({"A": "hunter2"}));
    let ram = ram();
    fs::set_permissions(&ram, fs::Permissions::from_mode(0o755)).unwrap();
    let directory = ram.path().join("secrets");
    let render =
        |more: &[&str]| instance.driver(&[&["render", directory.to_str().unwrap()], more].concat());
    let about = |path: &Path| {
        let about = fs::metadata(path).unwrap();
        (about.uid(), about.gid(), about.mode() & 0o777)
    };
    let read_as = |uid: &str| {
        let mut cat = std::process::Command::new("setpriv");
        cat.arg(format!("--reuid={uid}")).args(["--regid=5678", "--clear-groups", "cat"]);
        cat.arg(directory.join("A"));
        psi_harness::run(cat, b"")
    };
    // A directory that root alone rendered into is given later.
    render(&[]).ok();
    assert_eq!(about(&directory), (0, 0, 0o700));
    for value in ["hunter2", "another"] {
        infisical.put("/myapp", "A", value);
        instance.driver(&["cache", "refresh"]).ok();
        render(&["--owner", "1234:5678"]).ok();
        assert_eq!(about(&directory), (1234, 5678, 0o700));
        assert_eq!(read_as("1234").stdout_text(), value);
        assert_ne!(read_as("1235").code, 0);
    }
    assert!(render(&[]).fails(65).contains("belongs to uid 1234"));
    assert!(render(&["--owner", "1235:5678"]).fails(65).contains("belongs to uid 1234"));
}

/// Otherwise `render /run --owner` would give /run away.
#[test]
fn render_gives_no_directory_with_other_files() {
    let (_infisical, instance, _psid) = myapp(&json!({"A": "hunter2"}));
    let ram = ram();
    let directory = ram.path().join("shared");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.join("mine"), "stays").unwrap();
    let args = ["render", directory.to_str().unwrap(), "--owner", "1234:5678"];
    for _ in 0..2 {
        let outcome = instance.driver(&args).run();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("has other files, so its owner is not changed"));
        assert_eq!(fs::metadata(&directory).unwrap().uid(), 0);
        assert_eq!(fs::metadata(directory.join("A")).unwrap().uid(), 1234);
    }
}

/// Its owner could replace the directory between the check and the write.
#[test]
fn render_refuses_a_directory_below_another_users_directory() {
    let (_infisical, instance, _psid) = myapp(&json!({"A": "hunter2"}));
    let ram = ram();
    let (home, elsewhere) = (ram.path().join("home"), ram.path().join("elsewhere"));
    for directory in [&home, &elsewhere, &home.join("mine")] {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let render = |path: &Path| instance.driver(&["render", path.to_str().unwrap()]).fails(65);
    std::os::unix::fs::chown(&home, Some(1234), None).unwrap();
    assert!(render(&home.join("mine")).contains("home belongs to uid 1234"));
    // A link of that user, as the last component and before it.
    std::os::unix::fs::symlink(&elsewhere, home.join("link")).unwrap();
    render(&home.join("link"));
    std::os::unix::fs::chown(&home, Some(0), None).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(render(&home.join("mine")).contains("home is writable for others"));
    fs::set_permissions(&home, fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(render(&home.join("link/below")).contains("link is a symbolic link"));
    assert!(names(&elsewhere).is_empty() && names(&home.join("mine")).is_empty());
}

#[test]
fn render_to_a_disk_requires_force() {
    let (_infisical, instance, _psid) = myapp(&json!({"A": "hunter2"}));
    let disk = tempfile::tempdir_in(psi_harness::target_directory()).unwrap();
    let directory = disk.path().join("secrets");
    let args = ["render", directory.to_str().unwrap()];
    let line = instance.driver(&args).fails(65);
    assert!(line.contains("is on a disk, where the secrets would remain"), "{line}");
    assert!(names(&directory).is_empty());
    instance.driver(&[&args[..], &["--force"]].concat()).ok();
    assert_eq!(fs::read(directory.join("A")).unwrap(), b"hunter2");
}
