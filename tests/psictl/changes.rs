//! Units that run with an older value: who is named, what is restarted, and when nothing is. A shell script stands in for
//! systemctl; tests/vm has the real one.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use psi_harness::{Config, FakeInfisical, Instance, Outcome, Psid, eventually, program, run};
use serde_json::{Value, json};

/// A `systemctl` whose units are the files of a directory, with the microseconds at which they began to start. A unit
/// with a file `NAME.fails` does not come back from a restart, and is not reloaded. psi-render@.service renders into
/// `files`, then runs the file `render`; a service that is reloaded copies what was rendered.
const SYSTEMCTL: &str = r#"#!/bin/sh
cd "$UNITS" || exit 1
case $1 in
show)
    shift
    [ "$2" = --value ] && value=1
    until [ "$1" = -- ]; do shift; done
    shift
    if [ "${value-}" ]; then
        if [ -e "$1" ]; then echo active; else echo failed; fi
        exit
    fi
    echo "$@" >>shown
    for file in $*; do
        [ -e "$file" ] || continue
        printf 'Id=%s\nActiveState=active\n' "$file"
        printf 'InactiveExitTimestampMonotonic=%s\nSourcePath=/q/x.container\n\n' "$(cat "$file")"
    done ;;
try-restart)
    echo "$3" >>restarts
    if [ -e "$3.fails" ]; then rm "$3"; echo "Job for $3 failed." >&2; exit 1; fi
    "$0" now >"$3" ;;
reload | reload-or-restart)
    echo "$1 $3" >>restarts
    if [ -e "$3.fails" ]; then echo "Job for $3 failed." >&2; exit 1; fi
    case $3 in
    psi-render@*)
        workload=${3#psi-render@}
        "$DRIVER" render --force --workload "${workload%.service}" "$UNITS/files" >&2 || exit 1
        [ ! -e render ] || . ./render ;;
    *) cp files/K "$3.K" ;;
    esac ;;
now) python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)' ;;
esac
"#;

struct Fleet {
    infisical: FakeInfisical,
    instance: Instance,
    psid: Option<Psid>,
}

impl Fleet {
    /// A psid with a workload for each of these names, with one key, whose unit runs.
    fn of(workloads: &[&str], on_change: &str) -> Self {
        let secrets: Value = workloads
            .iter()
            .map(|name| (format!("/{name}"), json!({"K": "one"})))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let infisical = FakeInfisical::with(&secrets);
        let instance = Instance::of(&infisical);
        let mut config = Config::of(&infisical);
        for name in workloads {
            config.rest += &format!(
                "[workloads.\"{name}\"]\nprovider = \"infisical\"\n{on_change}\n\
                 secrets = [{{ project = \"myproject\", path = \"/{name}\" }}]\n"
            );
        }
        instance.configure(&config);
        let psid = Some(instance.start());
        let fleet = Self { infisical, instance, psid };
        fs::create_dir_all(fleet.units()).unwrap();
        fs::create_dir_all(fleet.bin()).unwrap();
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh", SYSTEMCTL]);
        shell.arg(fleet.bin().join("systemctl"));
        assert_eq!(run(shell, b"").code, 0);
        fleet.refresh();
        for name in workloads {
            fleet.start_unit(&format!("{name}.service"));
        }
        fleet
    }

    fn bin(&self) -> PathBuf {
        self.instance.directory().join("bin")
    }

    fn units(&self) -> PathBuf {
        self.instance.directory().join("units")
    }

    fn start_unit(&self, unit: &str) {
        let mut now = std::process::Command::new(self.bin().join("systemctl"));
        now.arg("now").env("UNITS", self.units());
        fs::write(self.units().join(unit), run(now, b"").stdout).unwrap();
    }

    fn refresh(&self) {
        self.instance.driver(&["cache", "refresh"]).ok();
    }

    /// A value changes, and psid sees it.
    fn change(&self, workload: &str, value: &str) {
        self.infisical.put(&format!("/{workload}"), "K", value);
        self.refresh();
    }

    fn psictl(&self, args: &[&str]) -> Outcome {
        let path = format!("{}:{}", self.bin().display(), std::env::var("PATH").unwrap());
        let call = self.instance.driver(args).env("PATH", path).env("UNITS", self.units());
        let call = call.env("DRIVER", program("psi-driver"));
        call.through_shell(
            "exec unshare --mount sh -euc 'mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && \
             mkdir /run/systemd/system && exec \"$@\"' sh \"$@\"",
        )
    }

    /// The exit status and the outcome of each unit.
    fn apply(&self, args: &[&str]) -> (i32, Vec<(String, String)>) {
        let outcome = self.psictl(&[&["apply-changes", "--json"], args].concat());
        let report: Value = serde_json::from_slice(&outcome.stdout)
            .unwrap_or_else(|_| panic!("{}: {}", outcome.code, outcome.stderr));
        assert_eq!(report["unknown"], json!([]));
        let units = report["units"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (outcome.code, units.map(|one| (text(&one["unit"]), text(&one["outcome"]))).collect())
    }

    fn restarts(&self) -> Vec<String> {
        self.units_in("restarts")
    }

    /// The units that systemctl noted in a file.
    fn units_in(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.units().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn marks(&self) -> BTreeSet<String> {
        let files = fs::read_dir(self.instance.run_directory().join("changed"));
        let names = files.into_iter().flatten().map(|file| file.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    fn await_marks(&self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        eventually("the marks", || (self.marks() == expected).then_some(()));
    }

    fn outdated(&self) -> Vec<String> {
        let outcome = self.psictl(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&outcome.stdout).unwrap();
        let units = status["outdated_units"].as_array().unwrap().iter();
        units.map(|one| one["unit"].as_str().unwrap().to_owned()).collect()
    }
}

const RESTART: &str = "on_change = \"restart\"\non_change_jitter = \"0s\"";

fn done(units: &[&str]) -> (i32, Vec<(String, String)>) {
    all(units, "restarted")
}

fn all(units: &[&str], outcome: &str) -> (i32, Vec<(String, String)>) {
    (0, units.iter().map(|unit| ((*unit).to_owned(), outcome.to_owned())).collect())
}

#[test]
fn changed_value_is_marked_and_its_unit_alone_restarted_once() {
    let fleet = Fleet::of(&["a", "b", "c"], RESTART);
    assert_eq!(fleet.outdated(), [""; 0]);
    fleet.change("b", "two");
    fleet.await_marks(&["b"]);
    assert_eq!(fleet.outdated(), ["b.service"]);
    assert_eq!(fleet.apply(&["--marked"]), done(&["b.service"]));
    assert_eq!(fleet.marks(), BTreeSet::new());
    assert_eq!(fleet.apply(&[]), done(&[]));
    assert_eq!(fleet.restarts(), ["b.service"]);
    assert_eq!(fleet.outdated(), [""; 0]);
    // The same value again is no change.
    fleet.refresh();
    assert_eq!(fleet.outdated(), [""; 0]);
}

#[test]
fn outdated_unit_is_named_by_each_report() {
    let fleet = Fleet::of(&["web"], "");
    fleet.change("web", "two");
    let text = |args: &[&str]| fleet.psictl(args).stdout_text();
    let words = "web.service runs with an older value of 1 secret (web--K), changed ";
    let status = text(&["status"]);
    assert!(status.contains(&format!("OUTDATED   {words}")), "{status}");
    assert!(status.contains("; run `psictl apply-changes web`\n"), "{status}");
    let metrics = text(&["metrics"]);
    assert!(metrics.contains("psi_outdated_units 1\n"), "{metrics}");
    let sample =
        "psi_unit_outdated_since_timestamp_seconds{workload=\"web\",unit=\"web.service\"} ";
    assert!(metrics.contains(sample), "{metrics}");
    let doctor: Value = serde_json::from_str(&text(&["doctor", "--json"])).unwrap();
    assert!(doctor.to_string().contains("\"outdated-value\""), "{doctor}");
    // Nothing asks for a restart but the admin.
    assert_eq!((fleet.marks(), fleet.apply(&[])), (BTreeSet::new(), done(&[])));
    assert_eq!(fleet.psictl(&["apply-changes", "--dry-run", "web"]).code, 1);
    assert_eq!(fleet.restarts(), [""; 0]);
    assert_eq!(fleet.apply(&["web"]), done(&["web.service"]));
}

#[test]
fn first_unit_that_does_not_come_back_ends_the_run() {
    let fleet = Fleet::of(&["a", "b", "c"], RESTART);
    for name in ["a", "b", "c"] {
        fleet.change(name, "two");
    }
    fs::write(fleet.units().join("b.service.fails"), "").unwrap();
    let (code, units) = fleet.apply(&[]);
    let outcomes: Vec<_> = units.iter().map(|(unit, what)| format!("{unit} {what}")).collect();
    assert_eq!(code, 1);
    assert_eq!(outcomes, ["a.service restarted", "b.service failed", "c.service not-tried"]);
    // It is tried again by hand.
    fs::remove_file(fleet.units().join("b.service.fails")).unwrap();
    assert_eq!(fleet.apply(&[]), done(&["c.service"]), "b.service does not run");
}

#[test]
fn nothing_is_restarted_during_a_drill_or_an_outage_and_psid_marks_it_again() {
    let mut fleet = Fleet::of(&["a"], RESTART);
    fleet.change("a", "two");
    fleet.await_marks(&["a"]);
    fleet.infisical.kill();
    fleet.instance.driver(&["cache", "refresh"]).run();
    let deferred = (0, vec![("a.service".to_owned(), "deferred".to_owned())]);
    assert_eq!(fleet.apply(&["--marked"]), deferred);
    assert_eq!(fleet.apply(&[]).0, 1, "by hand, it is reported");
    fleet.infisical.restart();
    fleet.refresh();
    fleet.await_marks(&["a"]);
    assert_eq!(fleet.restarts(), [""; 0]);
    let drill = fleet.instance.driver(&["drill", "--for", "15s"]);
    let drill = std::thread::spawn(move || drill.run());
    eventually("the drill", || (fleet.apply(&[]).1 == deferred.1).then_some(()));
    assert_eq!(fleet.apply(&["--marked"]), deferred);
    drill.join().unwrap();
    fleet.await_marks(&["a"]);
    assert_eq!(fleet.apply(&["--marked"]), done(&["a.service"]));
}

#[test]
fn moved_removed_or_withheld_value_is_no_change() {
    let fleet = Fleet::of(&["a", "b"], RESTART);
    for key in ["L", "M", "N"] {
        fleet.infisical.put("/a", key, "v");
    }
    fleet.refresh();
    for key in ["K", "L", "M", "N"] {
        fleet.infisical.remove("/a", key);
    }
    fleet.infisical.put("/b", "K2", "one");
    fleet.instance.driver(&["cache", "refresh"]).run();
    assert_eq!(fleet.outdated(), [""; 0]);
    assert_eq!(fleet.marks(), BTreeSet::new());
}

#[test]
fn change_is_known_after_a_restart_of_psid_and_of_an_invalidated_value() {
    let mut fleet = Fleet::of(&["a", "b"], RESTART);
    let generation = fleet.psid.as_ref().unwrap().generation();
    fleet.change("a", "two");
    fleet.psid.as_ref().unwrap().await_generation_after(generation);
    fleet.psid.take().unwrap().terminate();
    fs::remove_dir_all(fleet.instance.run_directory().join("changed")).unwrap();
    fleet.psid = Some(fleet.instance.start());
    assert_eq!(fleet.outdated(), ["a.service"]);
    fleet.await_marks(&["a"]);
    let reference = r#"{"provider":"infisical","project":"myproject","path":"/b","key":"K"}"#;
    fleet.instance.driver(&["cache", "invalidate", reference]).ok();
    fleet.change("b", "two");
    assert_eq!(fleet.outdated(), ["a.service", "b.service"]);
}

#[test]
fn each_instance_of_a_template_is_restarted() {
    let fleet = Fleet::of(&["job@"], RESTART);
    fs::remove_file(fleet.units().join("job@.service")).unwrap();
    for instance in ["job@x.service", "job@y.service"] {
        fleet.start_unit(instance);
    }
    fleet.change("job@", "two");
    fleet.start_unit("job@z.service");
    assert_eq!(fleet.apply(&[]), done(&["job@x.service", "job@y.service"]));
}

#[test]
fn systemd_is_asked_about_the_named_workload_alone() {
    let fleet = Fleet::of(&["a", "b", "c"], RESTART);
    for name in ["a", "b", "c"] {
        fleet.change(name, "two");
    }
    assert_eq!(fleet.apply(&["b"]), done(&["b.service"]));
    assert_eq!(fleet.units_in("shown"), ["b.service"; 2]);
}

#[test]
fn value_that_changes_during_a_reload_is_applied_by_another_one() {
    let fleet = Fleet::of(&["conf"], "on_change = \"reload\"");
    fleet.change("conf", "two");
    // The second change comes after the files were rendered.
    let wait = "touch rendering; while [ -e rendering ]; do sleep 0.05; done";
    fs::write(fleet.units().join("render"), wait).unwrap();
    let rendering = fleet.units().join("rendering");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| fleet.apply(&[]));
        eventually("the rendering", || rendering.exists().then_some(()));
        fleet.change("conf", "three");
        fs::remove_file(rendering).unwrap();
        assert_eq!(run.join().unwrap(), all(&["conf.service"], "reloaded"));
    });
    fs::remove_file(fleet.units().join("render")).unwrap();
    assert_eq!(fleet.outdated(), ["conf.service"]);
    assert_eq!(fleet.apply(&[]), all(&["conf.service"], "reloaded"));
    assert_eq!(fleet.outdated(), [""; 0]);
    let read = fs::read_to_string(fleet.units().join("conf.service.K")).unwrap();
    assert_eq!((read.as_str(), fleet.restarts().len()), ("three", 4));
}

/// `psi-render@.service` first, then the service that reads its files.
#[test]
fn reload_follows_the_rendered_files_and_does_not_happen_without_them() {
    const RENDER: &str = "psi-render@web.service";
    let fleet = Fleet::of(&["web"], "on_change = \"reload\"\non_change_jitter = \"0s\"");
    fleet.start_unit(RENDER);
    fleet.change("web", "two");
    fleet.await_marks(&["web"]);
    assert_eq!(fleet.outdated(), [RENDER, "web.service"]);
    fs::write(fleet.units().join(format!("{RENDER}.fails")), "").unwrap();
    let outcomes = |args: &[&str]| -> (i32, Vec<String>) {
        let (code, units) = fleet.apply(args);
        (code, units.iter().map(|(unit, what)| format!("{unit} {what}")).collect())
    };
    let failed = (1, vec![format!("{RENDER} failed"), "web.service not-tried".to_owned()]);
    assert_eq!(outcomes(&["--marked"]), failed);
    assert_eq!(fleet.restarts(), [format!("reload-or-restart {RENDER}")]);
    assert_eq!(fleet.outdated(), [RENDER, "web.service"], "the state is shown");
    fs::remove_file(fleet.units().join(format!("{RENDER}.fails"))).unwrap();
    let both = (0, vec![format!("{RENDER} reloaded"), "web.service reloaded".to_owned()]);
    assert_eq!(outcomes(&[]), both);
    let read = || fs::read_to_string(fleet.units().join("web.service.K")).unwrap();
    assert_eq!(read(), "two");
    assert_eq!((fleet.outdated(), outcomes(&[])), (vec![], (0, vec![])));
    // A service that is not reloaded has the older value, though its files are new.
    fleet.change("web", "three");
    fs::write(fleet.units().join("web.service.fails"), "").unwrap();
    assert_eq!(outcomes(&[]).1[1], "web.service failed");
    assert_eq!((fleet.outdated(), read()), (vec!["web.service".to_owned()], "two".to_owned()));
    fs::remove_file(fleet.units().join("web.service.fails")).unwrap();
    assert_eq!(outcomes(&[]), (0, vec!["web.service reloaded".to_owned()]));
    assert_eq!(read(), "three");
    // A service that began after the change, with the files of before.
    fleet.change("web", "four");
    fleet.start_unit("web.service");
    assert_eq!(fleet.outdated(), [RENDER, "web.service"]);
    assert_eq!((outcomes(&[]), read()), (both, "four".to_owned()));
}
