use psi_common::Severity;

use super::*;

const FILE: &str = "[secrets]\ndriver = \"file\"\n";

fn commands() -> Commands {
    ["lookup", "store", "delete", "list"]
        .map(|verb| (verb.to_owned(), format!("exec /usr/bin/psi-driver {verb}")))
        .into()
}

/// The findings on a host with psi's drop-in and these files.
fn messages(podman: &str, files: &[(&str, &str)]) -> Vec<String> {
    messages_for(0, podman, files)
}

fn messages_for(uid: u32, podman: &str, files: &[(&str, &str)]) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let psi = include_str!("../../../../../contrib/containers.conf.d/50-psi.conf");
    for (path, text) in files.iter().chain(&[("etc/containers/containers.conf.d/50-psi.conf", psi)])
    {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let places = Places {
        podman: podman.parse().unwrap(),
        uid,
        user: Some(root.path().join("home")),
        only: None,
        last: None,
        root: root.path().into(),
    };
    let base = format!("{}/", root.path().display());
    let findings = check(&places, &commands()).into_iter();
    let findings = findings.filter(|finding| finding.severity != Severity::Note);
    findings.map(|finding| finding.problem.what.replace(&base, "/")).collect()
}

#[test]
fn check_accepts_the_drop_in_and_unrelated_files() {
    assert!(messages("4.0.0", &[]).is_empty());
    let other = "[engine]\nruntime = \"crun\"\n";
    assert!(messages("5.0.0", &[("etc/containers/containers.conf", other)]).is_empty());
    let before = "[secrets]\ndriver = \"pass\"\n";
    assert!(messages("5.0.0", &[("etc/containers/containers.conf", before)]).is_empty());
}

#[test]
fn check_names_the_file_that_overrides_the_drop_in() {
    let late = "etc/containers/containers.conf.d/99-late.conf";
    let file = "[secrets]\ndriver = \"file\"\n";
    assert!(
        messages("5.0.0", &[(late, file)])[0]
            .contains("file driver, by /etc/containers/containers.conf.d/99-late")
    );
    let root = "[secrets.opts]\nroot = \"/x\"\n";
    let why = messages("5.0.0", &[(late, root)]);
    assert!(why[0].contains("sets [secrets.opts] root") && why.len() == 1, "{why:?}");
    let lookup = "[secrets.opts]\nlookup = \"exec true\"\n";
    assert!(messages("5.0.0", &[(late, lookup)])[0].contains("another lookup command than psi's"));
    assert!(messages("5.0.0", &[(late, "[secrets")])[0].contains("it is not TOML"));
}

/// Podman 6 sorts drop-ins by name alone; before, the user's came last.
#[test]
fn files_are_in_the_order_of_the_podman_version() {
    let early = [("home/containers.conf.d/10-mine.conf", "[secrets]\ndriver = \"file\"\n")];
    assert_eq!(messages("5.0.0", &early).len(), 1);
    assert!(messages("6.0.0", &early).is_empty());
    let shadow = [("home/containers.conf.d/50-psi.conf", "[secrets]\ndriver = \"file\"\n")];
    assert_eq!(messages("6.0.0", &shadow).len(), 1);
}

#[test]
fn check_reports_a_missing_drop_in() {
    let places = Places {
        podman: PodmanVersion(5, 8, 2),
        uid: 0,
        user: None,
        only: Some("/dev/null".into()),
        last: None,
        root: "/".into(),
    };
    let found = check(&places, &commands());
    assert!(found[0].problem.what.contains("podman's file driver, in plaintext"), "{found:?}");
    assert!(found[0].problem.remedy.contains("psictl install"));
}

/// H3: podman 6 has drop-ins for root and for users, in /etc and in /usr/share; 5.7 has those for users in
/// /etc. A later one puts new secrets into the file driver.
#[test]
fn files_has_the_drop_ins_for_root_and_users_of_the_podman_version() {
    let rootful = [("etc/containers/containers.rootful.conf.d/60-x.conf", FILE)];
    let vendor = [("usr/share/containers/containers.rootful.conf.d/60-x.conf", FILE)];
    let rootless = [("etc/containers/containers.rootless.conf.d/60-x.conf", FILE)];
    let own = [("usr/share/containers/containers.rootless.conf.d/1000/60-x.conf", FILE)];
    let main = [("etc/containers/containers.rootless.conf", FILE)];
    for (files, uid, podman, is_found) in [
        (&rootful, 0, "6.1.1", true),
        (&vendor, 0, "6.0.0-dev", true),
        (&rootful, 1000, "6.1.1", false),
        (&rootful, 0, "5.8.6", false),
        (&rootless, 1000, "6.1.1", true),
        (&rootless, 0, "6.1.1", false),
        (&rootless, 1000, "5.7.0", true),
        (&rootless, 1000, "5.6.2", false),
        (&own, 1000, "6.1.1", true),
        (&own, 1001, "6.1.1", false),
        (&own, 1000, "5.8.6", false),
        (&main, 1000, "5.8.6", true),
        (&main, 1000, "6.1.1", false),
    ] {
        let found = messages_for(uid, podman, files);
        let path = files[0].0;
        assert_eq!(
            found.iter().any(|it| it.contains(path)),
            is_found,
            "{podman} {uid} {path}: {found:?}"
        );
    }
    // Sorted by name, it precedes psi's.
    let early = [("etc/containers/containers.rootful.conf.d/10-x.conf", FILE)];
    assert!(messages("6.1.1", &early).is_empty());
}

#[test]
fn sections_and_keys_are_matched_without_case() {
    let late = "etc/containers/containers.conf.d/99-late.conf";
    let found = messages("6.1.1", &[(late, "[Secrets]\nDriver = \"file\"\n")]);
    assert!(found[0].contains("file driver, by /etc"), "{found:?}");
    let found = messages("5.4.2", &[(late, "[SECRETS.Opts]\nroot = \"/x\"\n")]);
    assert!(found[0].contains("sets [secrets.opts] root"), "{found:?}");
}

#[test]
fn broken_links_stop_podman_4_only() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/containers/containers.conf.d");
    fs::create_dir_all(&directory).unwrap();
    let psi = root.path().join("psi.conf");
    fs::write(&psi, include_str!("../../../../../contrib/containers.conf.d/50-psi.conf")).unwrap();
    std::os::unix::fs::symlink(&psi, directory.join("50-psi.conf")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.join("60-gone.conf")).unwrap();
    fs::create_dir(directory.join("70-directory.conf")).unwrap();
    for (podman, starts) in [("4.3.1", false), ("5.4.2", true), ("5.8.6", true), ("6.1.1", true)] {
        let (podman, root) = (podman.parse().unwrap(), root.path().into());
        let places = Places { podman, uid: 0, user: None, only: None, last: None, root };
        let found: Vec<_> = check(&places, &commands())
            .into_iter()
            .filter(|finding| finding.severity == Severity::Error)
            .collect();
        assert_eq!(found.is_empty(), starts, "{podman}: {found:?}");
    }
}

#[test]
fn check_reports_values_of_another_type_and_unknown_drivers() {
    let late = "etc/containers/containers.conf.d/99-late.conf";
    for (text, why) in [
        ("secrets = 1", "its `secrets` is no table"),
        ("[secrets]\ndriver = 1", "its `driver` of `[secrets]` is no string"),
        ("[secrets.opts]\nlist = 1", "its `list` of `[secrets.opts]` is no string"),
        ("[secrets]\ndriver = \"vault\"", "it has no driver 'vault'"),
    ] {
        let found = messages("6.1.1", &[(late, text)]);
        assert!(found[0].contains(why), "{found:?}");
    }
}

#[test]
fn check_reports_a_variable_that_names_a_missing_file() {
    let refuses = |podman, only: Option<&str>, last: Option<&str>| {
        let (only, last) = (only.map(PathBuf::from), last.map(PathBuf::from));
        let places = Places { podman, uid: 0, user: None, only, last, root: "/nonexistent".into() };
        check(&places, &commands())
            .iter()
            .any(|it| it.problem.what.contains("podman does not start"))
    };
    assert!(refuses(PodmanVersion(4, 3, 1), Some("/nonexistent/c"), None));
    assert!(refuses(PodmanVersion(6, 1, 1), None, Some("/nonexistent/c")));
    assert!(refuses(PodmanVersion(5, 4, 2), None, Some("/nonexistent/c")));
    assert!(!refuses(PodmanVersion(5, 8, 6), None, Some("/nonexistent/c")));
    // It does not know the variable.
    assert!(!refuses(PodmanVersion(4, 3, 1), None, Some("/nonexistent/c")));
}

/// H9
#[test]
fn broken_service_is_reported_before_podman_5_8_2() {
    let service = |version: &str| broken_service(version.parse().unwrap());
    for version in ["4.3.1", "5.4.2", "5.8.1"] {
        let found = service(version).unwrap();
        assert!(
            found.problem.what.contains("invalid shell driver option")
                && found.problem.what.contains(version)
        );
        assert!(found.problem.remedy.contains("systemctl restart podman.service"));
    }
    for version in ["5.8.2", "5.8.6", "6.0.0-dev"] {
        assert_eq!(service(version), None);
    }
    assert!("".parse::<PodmanVersion>().is_err());
}
