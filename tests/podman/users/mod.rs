//! The users of workloads: each with a rootless podman, at the system's psid.

mod document;

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use psi_harness::{Config, DB, HostUser, Outcome, Podman, UserHost, WEB, run};

/// `web` has two secrets, `db` one, and root's `admin` one.
fn host() -> UserHost {
    let secrets = json!({
        "/web": {"A": "first", "B": "second"}, "/db": {"A": "of db"}, "/admin": {"A": "of root"}
    });
    UserHost::of(&secrets, with_db)
}

fn with_db(config: Config) -> Config {
    config.workload_of(DB.uid, "db", "/db").workload("admin", "/admin", false)
}

/// A host whose user `web` has an installed driver and its secrets.
fn set_up() -> UserHost {
    let host = host();
    host.admit(WEB);
    install(&host, WEB);
    host.ok(WEB, &["psictl", "setup"], "");
    host
}

fn install(host: &UserHost, user: HostUser) -> String {
    let driver = host.program("psi-driver");
    host.ok(user, &["psictl", "install", "--program", driver.to_str().unwrap()], "")
}

/// The commands of root, whose podman has its own store.
struct Root<'a> {
    host: &'a UserHost,
    podman: Podman,
}

impl<'a> Root<'a> {
    fn of(host: &'a UserHost) -> Self {
        Self { host, podman: Podman::of(&host.instance) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let quadlets = self.host.instance.directory().join("quadlets");
        let driver = self.host.program("psi-driver");
        let places =
            ["--program", driver.to_str().unwrap(), "--quadlets", quadlets.to_str().unwrap()];
        let mut command = self.host.root(&[&["psictl"], &args[..1], &places, &args[1..]].concat());
        for (name, value) in self.podman.environment().filter(|(name, _)| *name != "PATH") {
            command.env(name, value);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Outcome {
        run(self.command(args), b"")
    }

    #[track_caller]
    fn json(&self, code: i32, args: &[&str]) -> Value {
        let outcome = self.run(args);
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (code, ""),
            "{}",
            outcome.stdout_text()
        );
        serde_json::from_slice(&outcome.stdout).unwrap()
    }
}

#[test]
fn roots_setup_admits_the_users_of_workloads() {
    let host = host();
    let root = Root::of(&host);
    let line = host.fails(WEB, 77, &["psictl", "status"], "");
    for part in [
        "/run/psi/users.sock",
        "`psictl setup`",
        "`systemctl restart user@41001.service`",
        "user = \"web\"",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let users = json!([{"name": "db", "uid": DB.uid}, {"name": "web", "uid": WEB.uid}]);
    let dry_run = root.json(1, &["setup", "--dry-run", "--json"]);
    assert_eq!((&dry_run["users"], &dry_run["clean"]), (&users, &json!(false)));
    let text = root.run(&["setup", "--dry-run"]).stdout_text();
    assert!(text.contains("would add web to the group psi-users"), "{text}");
    assert!(!host.is_admitted(WEB));

    let done = root.json(0, &["setup", "--json"]);
    assert_eq!(done["users"], users);
    let names: Vec<&Value> =
        done["workloads"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["admin"], "the users' workloads are theirs");
    assert!(host.is_admitted(WEB) && host.is_admitted(DB));
    // Root's `psictl setup` changes nothing twice.
    assert_eq!(root.json(0, &["setup", "--json"])["users"], json!([]));
    assert_eq!(root.json(0, &["setup", "--dry-run", "--json"])["clean"], json!(true));
    host.ok(WEB, &["psictl", "status"], "");
}

#[test]
fn setup_names_the_command_for_users_that_are_already_logged_in() {
    let host = host();
    let root = Root::of(&host);
    host.admit(DB);
    let text = root.run(&["setup"]).stdout_text();
    let line = "added web to the group psi-users; its running podman reaches psid after `systemctl restart \
                user@41001.service`\n";
    assert!(text.contains(line) && !text.contains("added db"), "{text}");
}

#[test]
fn roots_setup_reports_a_user_that_it_cannot_admit_and_does_the_rest() {
    let host = host();
    let root = Root::of(&host);
    let groups = fs::read_to_string(host.etc("group")).unwrap();
    let without: String = groups
        .lines()
        .filter(|line| !line.starts_with("psi-users:"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(host.etc("group"), without).unwrap();
    let outcome = root.run(&["setup", "--json"]);
    let done: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{done}");
    assert!(done["failed"]["users"].as_str().unwrap().contains("`systemd-sysusers`"), "{done}");
    assert_eq!(done["workloads"][0]["created"], json!(["admin--A"]), "{done}");
    fs::write(host.etc("group"), groups).unwrap();
    // Nobody has this uid, so that no command can make it a member.
    let mut host = host;
    host.reconfigure(&with_db(host.config()).workload_of(41_050, "nameless", "/admin"));
    let root = Root::of(&host);
    let outcome = root.run(&["setup", "--json"]);
    let done: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{done}");
    let why = done["failed"]["user 41050"].as_str().unwrap();
    assert!(why.contains("make 41050 a member of the group psi-users by hand"), "{why}");
    assert!(host.is_admitted(WEB) && host.is_admitted(DB));
}

#[test]
fn unknown_user_is_an_error_of_its_workload() {
    let mut host = host();
    let config = with_db(host.config()).workload_of("nobody-of-this-name", "ghost", "/admin");
    host.reconfigure(&config);
    let root = Root::of(&host);
    let outcome = root.run(&["setup", "--json"]);
    let done: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{done}");
    let ghost =
        done["workloads"].as_array().unwrap().iter().find(|it| it["name"] == "ghost").unwrap();
    let why = ghost["errors"][0].as_str().unwrap();
    assert!(why.contains("psid does not know its user nobody-of-this-name"), "{why}");
    assert!(host.is_admitted(WEB));
}

#[test]
fn users_podman_runs_containers_with_the_secrets_of_its_workload() {
    let host = host();
    host.admit(WEB);
    let installed = install(&host, WEB);
    let drop_in = host.home(WEB).join(".config/containers/containers.conf.d/50-psi.conf");
    assert!(installed.contains(&drop_in.display().to_string()), "{installed}");
    assert!(installed.contains("podman creates new secrets with psi"), "{installed}");
    let done: Value =
        serde_json::from_str(&host.ok(WEB, &["psictl", "setup", "--json"], "")).unwrap();
    assert_eq!(done["workloads"][0]["created"], json!(["web--A", "web--B"]), "{done}");
    assert_eq!((done["workloads"].as_array().unwrap().len(), &done["users"]), (1, &json!([])));
    let quadlet = host.home(WEB).join(".config/containers/systemd/web.container.d/50-psi.conf");
    assert_eq!(done["drop_ins"], json!([quadlet.display().to_string()]));
    let text = fs::read_to_string(&quadlet).unwrap();
    assert!(text.contains("Secret=web--A,type=env,target=A\n") && !text.contains("psid"), "{text}");
    let again = host.ok(WEB, &["psictl", "setup"], "");
    assert!(again.ends_with("nothing to do\n"), "{again}");

    let script = "mkdir -p image/bin && cp /bin/busybox image/bin/ && ln -s busybox image/bin/cat && ln -s busybox \
                  image/bin/env && tar -C image -cf - . | podman import -q - localhost/bb:1 >&2 && \
                  podman run --rm --secret web--A --secret web--B,type=env,target=B localhost/bb:1 env && \
                  podman run --rm --secret web--A localhost/bb:1 cat /run/secrets/web--A";
    let output = host.ok(WEB, &["sh", "-euc", &format!("cd && {script}")], "");
    assert!(output.contains("B=second\n") && output.ends_with("first"), "{output}");
    // In an outage and after a restart too.
    let mut host = host;
    host.psid.take().unwrap().terminate();
    host.infisical.kill();
    host.start_psid();
    let run = [
        "podman",
        "run",
        "--rm",
        "--secret",
        "web--A",
        "localhost/bb:1",
        "cat",
        "/run/secrets/web--A",
    ];
    assert_eq!(host.ok(WEB, &run, ""), "first");
}

#[test]
fn commands_of_a_user_see_its_own_workload_only() {
    let host = set_up();
    host.admit(DB);
    install(&host, DB);
    host.ok(DB, &["psictl", "setup"], "");
    let secrets = |user| -> Value {
        serde_json::from_str(&host.ok(user, &["psictl", "secrets", "--json"], "")).unwrap()
    };
    let names = |all: &Value| -> Vec<String> {
        all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&secrets(WEB)), ["web--A", "web--B"]);
    assert_eq!(names(&secrets(DB)), ["db--A"]);
    assert_eq!(secrets(DB)[0]["owner"], json!({"uid": DB.uid, "name": "db"}));
    let ids = host.ok(DB, &["psi-driver", "list"], "");
    let id = ids.trim();
    let lookup =
        |user| host.run(user, &["env", &format!("SECRET_ID={id}"), "psi-driver", "lookup"], "");
    assert_eq!(lookup(DB).stdout, b"of db");
    assert_eq!((lookup(WEB).code, lookup(WEB).stdout), (66, Vec::new()));
    assert_eq!(
        host.ok(WEB, &["psictl", "exec", "--", "sh", "-c", "echo $A $B"], ""),
        "first second\n"
    );
    host.fails(WEB, 65, &["psictl", "exec", "--workload", "db", "--", "true"], "");
    let refreshed = host.ok(WEB, &["psictl", "cache", "refresh"], "");
    assert!(refreshed.contains("/web") && !refreshed.contains("/db"), "{refreshed}");
    let status: Value =
        serde_json::from_str(&host.ok(WEB, &["psictl", "cache", "status", "--json"], "")).unwrap();
    assert_eq!((&status["references"], &status["literals"]), (&json!(2), &json!(0)), "{status}");
    // What psid counts for all is not shown as none.
    assert_eq!(
        (&status["of_user"], &status["entries"]),
        (&json!(WEB.uid), &json!(null)),
        "{status}"
    );
    let text = host.ok(WEB, &["psictl", "status"], "");
    assert!(text.contains("uid 41001") && !text.contains("recovery"), "{text}");
    let metrics = host.ok(WEB, &["psictl", "metrics"], "");
    assert!(metrics.contains("psi_registered_secrets{kind=\"reference\"} 2"), "{metrics}");
    assert!(!metrics.contains("psi_cache_entries"), "{metrics}");
    host.ok(WEB, &["podman", "secret", "rm", "web--B"], "");
    let restorable = host.ok(WEB, &["psictl", "restore"], "");
    assert!(restorable.contains(": web--B"), "{restorable}");
    assert!(!host.ok(DB, &["psictl", "restore"], "").contains("web--B"));
    host.ok(WEB, &["psictl", "restore", "--all"], "");
}

fn findings(report: &Value) -> Vec<(String, String)> {
    let all = report["findings"].as_array().unwrap().iter();
    all.map(|one| (one["cause"].as_str().unwrap().to_owned(), one.to_string())).collect()
}

#[track_caller]
fn doctor(host: &UserHost, user: HostUser) -> Vec<(String, String)> {
    let outcome = host.run(user, &["psictl", "doctor", "--json"], "");
    assert!(matches!(outcome.code, 0 | 1), "{}", outcome.stderr);
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let mut found = findings(&report);
    // What the installed podman lacks is not the subject.
    found.retain(|(cause, _)| {
        !["podman-defect", "drop-in-missing", "drop-in-outdated"].contains(&cause.as_str())
    });
    found
}

#[test]
fn doctor_of_a_user_names_the_cause() {
    let mut host = set_up();
    let quadlet = host.home(WEB).join(".config/containers/systemd/web.container");
    fs::write(&quadlet, "[Container]\nImage=localhost/bb:1\n").unwrap();
    assert_eq!(doctor(&host, WEB), []);
    // Not in the group.
    let cause = |found: Vec<(String, String)>, cause: &str| {
        let one = found.iter().find(|(name, _)| name == cause);
        one.unwrap_or_else(|| panic!("no {cause}: {found:#?}")).1.clone()
    };
    let outside = cause(doctor(&host, DB), "not-allowed");
    assert!(outside.contains("systemctl restart user@41002.service"), "{outside}");
    // No workload names it.
    host.reconfigure(&host.config().workload_of(WEB.uid + 100, "web", "/web"));
    let config = Config::of(&host.infisical).workload_of(DB.uid, "db", "/db");
    host.reconfigure(&config);
    let unnamed = cause(doctor(&host, WEB), "not-allowed");
    assert!(unnamed.contains("uid 41001 is not the user of a workload"), "{unnamed}");
    host.reconfigure(&with_db(host.config()));
    // psid does not run.
    let socket = host.instance.users_socket();
    host.psid.take().unwrap().terminate();
    let down = cause(doctor(&host, WEB), "psid-down");
    assert!(down.contains("systemctl start psid-users.socket"), "{down}");
    fs::remove_file(&socket).unwrap();
    let missing = cause(doctor(&host, WEB), "psid-down");
    assert!(missing.contains("/psi/psid.sock"), "{missing}");
    assert!(missing.contains("for the system's psid, root starts psid-users.socket"), "{missing}");
}

/// The ids of a podman's record are no rights: whoever copies it has names of secrets that are not there.
#[test]
fn copied_record_of_podman_gives_no_access() {
    let host = set_up();
    host.admit(DB);
    install(&host, DB);
    let record =
        |user| host.home(user).join(".local/share/containers/storage/secrets/secrets.json");
    fs::copy(record(WEB), record(DB)).unwrap();
    let ids = host.ok(WEB, &["psi-driver", "list"], "");
    assert!(fs::read_to_string(record(DB)).unwrap().contains(ids.lines().next().unwrap()));
    let found = doctor(&host, DB);
    let unknown = found.iter().find(|(cause, _)| cause == "secret-unknown");
    let unknown = unknown.unwrap_or_else(|| panic!("{found:#?}"));
    assert!(
        unknown.1.contains("web--A") && unknown.1.contains("podman secret create --replace"),
        "{}",
        unknown.1
    );
    host.ok(DB, &["podman", "secret", "rm", "web--B"], "");
    host.ok(DB, &["podman", "secret", "rm", "web--A"], "");
    host.ok(DB, &["podman", "secret", "create", "web--A", "-"], "of db");
    assert_eq!(host.ok(WEB, &["psi-driver", "list"], ""), ids);
    assert_eq!(
        host.ok(WEB, &["psictl", "exec", "--", "sh", "-c", "echo $A $B"], ""),
        "first second\n"
    );
}

#[test]
fn doctor_of_root_names_users_that_do_not_reach_psid_and_no_orphans_of_theirs() {
    let host = set_up();
    let root = Root::of(&host);
    let report = |root: &Root| -> Value {
        let outcome = root.run(&["doctor", "--json"]);
        serde_json::from_slice(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"))
    };
    root.run(&["setup"]);
    let found = findings(&report(&root));
    assert!(
        !found
            .iter()
            .any(|(cause, _)| ["orphan", "podman-empty", "user-outside"].contains(&cause.as_str())),
        "{found:#?}"
    );
    let groups = fs::read_to_string(host.etc("group")).unwrap();
    fs::write(
        host.etc("group"),
        groups.replace("psi-users:x:41000:web,db", "psi-users:x:41000:web"),
    )
    .unwrap();
    let found = findings(&report(&root));
    let outside = found
        .iter()
        .find(|(cause, _)| cause == "user-outside")
        .unwrap_or_else(|| panic!("{found:#?}"));
    assert!(outside.1.contains("db, the user of a workload"), "{}", outside.1);
}

/// gc looks into the users' stores: what a user's podman has is used.
#[test]
fn gc_of_root_keeps_the_users_secrets() {
    let host = set_up();
    let root = Root::of(&host);
    root.run(&["setup"]);
    let before = host.ok(WEB, &["psi-driver", "list"], "");
    let outcome = {
        let mut gc = host.root(&["psictl", "gc", "--accept-removals"]);
        for (name, value) in root.podman.environment().filter(|(name, _)| *name != "PATH") {
            gc.env(name, value);
        }
        run(gc, b"")
    };
    assert_eq!(host.ok(WEB, &["psi-driver", "list"], ""), before, "{}", outcome.stdout_text());
    assert_eq!(outcome.code, 0, "{}", outcome.stdout_text());
}
