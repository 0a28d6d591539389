//! The SELinux module and the AppArmor profiles, built by the tools of distributions.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Tree, succeeds};
use psi_harness::repository;

/// The devel Makefile needs `NAME`, the name of a policy, which a host without SELinux does not
/// have.
fn compile(directory: &Path) {
    for name in ["psi.te", "psi.if", "psi.fc"] {
        fs::copy(repository().join("contrib/selinux").join(name), directory.join(name)).unwrap();
    }
    let mut make = Command::new("make");
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS").current_dir(directory);
    make.args(["-f", "/usr/share/selinux/devel/Makefile", "NAME=default", "psi.pp"]);
    succeeds(make);
}

#[test]
fn selinux_module_compiles_and_labels_installed_files() {
    let directory = tempfile::tempdir().unwrap();
    compile(directory.path());
    let mut unpack = Command::new("semodule_unpackage");
    unpack.current_dir(&directory).args(["psi.pp", "psi.mod", "psi.labels"]);
    succeeds(unpack);
    assert!(fs::metadata(directory.path().join("psi.mod")).unwrap().len() > 1_000);
    let labels = fs::read_to_string(directory.path().join("psi.labels")).unwrap();
    let label = |path: &str| {
        let line = labels.lines().find(|line| {
            let pattern = line.split_whitespace().next().unwrap_or_default();
            if let Some(directory) = pattern.strip_suffix("(/.*)?") {
                return path
                    .strip_prefix(directory)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            }
            let stem = pattern.trim_end_matches(".*");
            path == stem || (stem != pattern && path.starts_with(stem))
        });
        line.and_then(|line| line.split(':').nth(2)).map(str::to_owned)
    };
    for (path, kind) in [
        ("/usr/bin/psid", "psid_exec_t"),
        ("/usr/bin/psi-driver", "psi_driver_exec_t"),
        ("/usr/bin/psictl", "bin_t"),
        ("/etc/psi/config.toml", "psi_etc_t"),
        ("/var/lib/psi/cache.enc", "psid_var_lib_t"),
        ("/run/psi/psid.sock", "psi_runtime_t"),
        ("/run/psid/boot", "psid_runtime_t"),
    ] {
        assert_eq!(label(path).as_deref(), Some(kind), "{path}\n{labels}");
    }
    for line in Tree::installed("/usr").files() {
        let path = &line[5..];
        if path.starts_with("/usr/bin/") || path.contains("/systemd/system/psid") {
            assert!(label(path).is_some(), "{path} has no label of its own");
        }
    }
}

/// systemd ignores a context that it cannot set, so a misspelt one would not be noticed.
#[test]
fn selinux_module_defines_the_domain_of_the_unit() {
    let policy = fs::read_to_string(repository().join("contrib/selinux/psi.te")).unwrap();
    let unit = fs::read_to_string(repository().join("contrib/systemd/psid-creds@.service"));
    let unit = unit.unwrap();
    let context = unit.lines().find_map(|line| line.strip_prefix("SELinuxContext=-")).unwrap();
    let domain = context.split(':').nth(2).unwrap();
    assert!(policy.contains(&format!("type {domain};")), "{domain}");
}

#[test]
fn apparmor_profiles_are_valid_and_named_by_the_units() {
    let profiles = repository().join("contrib/apparmor/psid");
    let mut parser = Command::new("apparmor_parser");
    parser.args(["--skip-kernel-load", "--skip-cache", "--debug"]).arg(&profiles);
    let mut names = Command::new("apparmor_parser");
    names.args(["--skip-kernel-load", "--skip-cache", "--names"]).arg(&profiles);
    succeeds(parser);
    let names = String::from_utf8(succeeds(names).stdout).unwrap();
    let names: Vec<_> = names.lines().collect();
    assert_eq!(names, ["psid", "psid-creds"]);
    for (unit, profile) in [("psid.service", "psid"), ("psid-creds@.service", "psid-creds")] {
        let text = fs::read_to_string(repository().join("contrib/systemd").join(unit)).unwrap();
        let line = format!("AppArmorProfile=-{profile}\n");
        assert!(text.contains(&line), "{unit}");
    }
}
