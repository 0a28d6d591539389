//! `make install`: every path, and what it keeps of an older installation.

use std::fs;

use super::Tree;
use psi_harness::repository;

const FILES: [&str; 41] = [
    "0640 /etc/psi/config.toml",
    "0755 /usr/bin/psi-driver",
    "0755 /usr/bin/psictl",
    "0755 /usr/bin/psid",
    "0644 /usr/lib/systemd/system/psi-apply-changes.path",
    "0644 /usr/lib/systemd/system/psi-apply-changes.service",
    "0644 /usr/lib/systemd/system/psid-creds.socket",
    "0644 /usr/lib/systemd/system/psi-render@.service",
    "0644 /usr/lib/systemd/system/psid-creds@.service",
    "0644 /usr/lib/systemd/system/psid-users.socket",
    "0644 /usr/lib/systemd/system/psid.service",
    "0644 /usr/lib/systemd/system/psid.socket",
    "0644 /usr/lib/systemd/user/psi-apply-changes.path",
    "0644 /usr/lib/systemd/user/psi-apply-changes.service",
    "0644 /usr/lib/systemd/user/psi-render@.service",
    "0644 /usr/lib/systemd/user/psid.service",
    "0644 /usr/lib/systemd/user/psid.socket",
    "0644 /usr/lib/sysusers.d/psi.conf",
    "0644 /usr/lib/tmpfiles.d/psi.conf",
    "0644 /usr/share/bash-completion/completions/psi-driver",
    "0644 /usr/share/bash-completion/completions/psictl",
    "0644 /usr/share/doc/psid/CHANGELOG.md",
    "0644 /usr/share/doc/psid/CONTRIBUTING.md",
    "0644 /usr/share/doc/psid/LICENSE",
    "0644 /usr/share/doc/psid/README.md",
    "0644 /usr/share/doc/psid/tests/bench/RESULTS.md",
    "0644 /usr/share/doc/psid/tests/bench/results.svg",
    "0644 /usr/share/fish/vendor_completions.d/psi-driver.fish",
    "0644 /usr/share/fish/vendor_completions.d/psictl.fish",
    "0644 /usr/share/polkit-1/rules.d/psi.rules",
    "0644 /usr/share/psi/apparmor/psid",
    "0644 /usr/share/psi/selinux/psi.fc",
    "0644 /usr/share/psi/selinux/psi.if",
    "0644 /usr/share/psi/selinux/psi.te",
    "0644 /usr/share/psi/containers.conf.d/50-psi.conf",
    "0644 /usr/share/psi/psi.toml",
    "0644 /usr/share/psi/psid.service.d/hsm.conf",
    "0644 /usr/share/zsh/site-functions/_psi-driver",
    "0644 /usr/share/zsh/site-functions/_psictl",
    "0644 /usr/share/man/man5/psi.toml.5",
    "0644 /usr/share/man/man8/psid.8",
];

#[test]
fn install_puts_every_file_in_its_place() {
    let tree = Tree::installed("/usr");
    let mut expected: Vec<String> = FILES.map(str::to_owned).into();
    for page in fs::read_dir(repository().join("contrib/man")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".1") {
            expected.push(format!("0644 /usr/share/man/man1/{name}"));
        }
    }
    for document in fs::read_dir(repository().join("contrib/doc")).unwrap() {
        let name = document.unwrap().file_name().into_string().unwrap();
        expected.push(format!("0644 /usr/share/doc/psid/contrib/doc/{name}"));
    }
    expected.sort_by(|a, b| a[5..].cmp(&b[5..]));
    assert_eq!(tree.files(), expected);
}

/// The installed documents link to installed files only.
#[test]
fn links_of_installed_documents_resolve() {
    let tree = Tree::installed("/usr");
    let mut count = 0;
    for line in tree.files().iter().filter(|line| line.ends_with(".md")) {
        let document = tree.path(&line[5..]);
        let text = fs::read_to_string(&document).unwrap();
        let targets = text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap());
        for target in targets.filter(|target| !target.contains("://")) {
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{} links to {target}", document.display());
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

/// The installed man pages name no page of psi's, and no file of the package, that is not installed.
#[test]
fn installed_man_pages_name_installed_pages_and_files() {
    let tree = Tree::installed("/usr");
    let files = tree.files();
    let is_page = |line: &&String| line[5..].starts_with("/usr/share/man/");
    let installed: Vec<&str> =
        files.iter().filter(is_page).map(|line| line.rsplit('/').next().unwrap()).collect();
    let (mut pages, mut paths) = (0, 0);
    for line in files.iter().filter(is_page) {
        let text = fs::read_to_string(tree.path(&line[5..])).unwrap();
        let text =
            text.replace("\\-", "-").replace("\\fR", "").replace("\\fB", "").replace("\\fI", "");
        // `.BR name (1)` and `name(1)`.
        let text = text.replace(" (", "(");
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        for word in text.split(|c: char| !is_name(c) && c != '(' && c != ')') {
            let named = word
                .split_once('(')
                .and_then(|(name, section)| Some(format!("{name}.{}", section.strip_suffix(')')?)));
            if let Some(page) = named.filter(|page| page.starts_with("psi")) {
                assert!(installed.contains(&page.as_str()), "{line} names {page}");
                pages += 1;
            }
            let path = word.trim_end_matches('.');
            if path.starts_with("/usr/share/psi/") || path.starts_with("/usr/share/doc/psid/") {
                assert!(tree.path(path).exists(), "{line} names {path}");
                paths += 1;
            }
        }
    }
    assert!(pages > 100 && paths > 0, "{pages} {paths}");
}

/// Without a config, psi would fail each `podman secret create` of the host: only `psictl install`
/// makes it podman's driver.
#[test]
fn install_does_not_change_podmans_driver() {
    let tree = Tree::installed("/usr");
    assert!(!tree.path("/etc/containers").exists());
    let shipped = fs::read_to_string(tree.path("/usr/share/psi/containers.conf.d/50-psi.conf"));
    let contrib = repository().join("contrib/containers.conf.d/50-psi.conf");
    assert_eq!(shipped.unwrap(), fs::read_to_string(contrib).unwrap());
}

#[test]
fn second_install_keeps_an_edited_config_and_replaces_the_rest() {
    let tree = Tree::installed("/usr");
    let config = tree.path("/etc/psi/config.toml");
    let unit = tree.path("/usr/lib/systemd/system/psid.service");
    let installed = fs::read_to_string(&unit).unwrap();
    fs::write(&config, "[cache]\nenabled = false\n").unwrap();
    fs::write(&unit, "old").unwrap();
    let files = tree.files();
    tree.install();
    assert_eq!(fs::read_to_string(&config).unwrap(), "[cache]\nenabled = false\n");
    assert_eq!(fs::read_to_string(&unit).unwrap(), installed);
    assert_eq!(tree.files(), files);
}

/// A build by hand is installed below /usr/local, and every reference to a program names that path.
#[test]
fn install_writes_the_prefix_into_every_program_path() {
    let tree = Tree::installed("/usr/local");
    let mut named = 0;
    for line in tree.files() {
        let path = &line[5..];
        let of_programs = path.ends_with(".service") || path.ends_with("/50-psi.conf");
        if !of_programs {
            continue;
        }
        let text = fs::read_to_string(tree.path(path)).unwrap();
        assert!(!text.contains("/usr/bin/psi"), "{path}");
        named += text.matches("/usr/local/bin/psi").count();
    }
    assert_eq!(named, 13, "nine commands of units, and four of podman's");
}
