//! The drop-ins, as quadlet itself reads them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use psi_harness::{Host, generate, generate_by_each, workload};

/// PR #17 of the Python PSI: a unit that the generator refuses does not exist.
#[test]
fn pr17_quadlet_accepts_every_drop_in() {
    let mut workloads = workload("myapp", &[("/myapp", false)]);
    workloads +=
        "depends_on = [\"network-online.target\", \"db@1.service\"]\nmount = [\"tls.pem\"]\n";
    workloads += &workload("worker@", &[("/worker", true)]);
    workloads += &workload("with.dot_and-dash", &[("/myapp", false)]);
    let host = Host::of(
        &json!({
            "/myapp": {"DB_HOST": "1", "tls.pem": "2"},
            "/worker": {"QUEUE": "3"},
            "/worker/sub": {"DEEP": "4", "QUEUE": "below"},
        }),
        &workloads,
    );
    for name in ["myapp", "worker@", "with.dot_and-dash"] {
        host.write_quadlet(name);
    }
    let outcome = host.setup(&[]).run();
    assert_eq!(outcome.code, 65, "only tls.pem of with.dot_and-dash is no variable");
    let units = generate(&host.quadlets());
    let unit = |name: &str| {
        let begin = units.find(&format!("---{name}.service---")).unwrap();
        let unit = &units[begin + 3..];
        unit[..unit.find("\n---").unwrap_or(unit.len())].to_owned()
    };
    let myapp = unit("myapp");
    for part in [
        "--secret myapp--DB_HOST,type=env,target=DB_HOST",
        "--secret myapp--tls.pem,type=mount,target=tls.pem",
        "Wants=psid.socket network-online.target db@1.service",
        "After=psid.socket psid.service network-online.target db@1.service",
    ] {
        assert!(myapp.contains(part), "{part}: {myapp}");
    }
    let worker = unit("worker@");
    for part in ["--secret worker--QUEUE,type=env,target=QUEUE", "--secret worker--DEEP,type=env"] {
        assert!(worker.contains(part), "{part}: {worker}");
    }
    assert_eq!(worker.matches("--secret ").count(), 2, "{worker}");
    assert_eq!(host.lookup("worker--QUEUE"), "3", "the directory nearest to the source wins");
    assert!(unit("with.dot_and-dash").contains("--secret with.dot_and-dash--DB_HOST"));
}

/// N19: the Python PSI wrote its drop-ins in place, without a check of their author.
#[test]
fn n19_setup_replaces_only_its_own_drop_in() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let path = host.drop_in_path("myapp");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let before = fs::File::open(&path).unwrap();
    host.infisical.put("/myapp", "B", "2");
    host.set_up(&[]);
    // A reader of the old file reads it to its end: it was not overwritten.
    let old = std::io::read_to_string(before).unwrap();
    assert!(!old.contains("myapp--B") && host.drop_in("myapp").contains("myapp--B"));
    let directory = path.parent().unwrap();
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "nothing is left beside it");
    fs::write(&path, "# mine\n[Container]\nSecret=mine\n").unwrap();
    fs::write(directory.join("60-mine.conf"), "[Container]\nEnvironment=A=1\n").unwrap();
    let outcome = host.setup(&["--prune"]).run();
    assert_eq!(outcome.code, 65);
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert!(output.contains("it was not written by psi; remove"), "{output}");
    assert_eq!(host.drop_in("myapp"), "# mine\n[Container]\nSecret=mine\n");
    assert_eq!(host.ids().len(), 2, "the secrets are registered all the same");
}

#[test]
fn invalid_unit_name_creates_no_path() {
    let name = "../../escaped";
    let workloads = workload(name, &[("/myapp", false)]) + &workload("good", &[("/myapp", false)]);
    let host = Host::of(&json!({"/myapp": {"A": "1"}}), &workloads);
    let outcome = host.setup(&[]).run();
    assert_eq!(outcome.code, 65);
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert!(
        output.contains("error: '../../escaped' is not a valid name of a workload"),
        "{output}"
    );
    assert_eq!(host.ids().into_keys().collect::<Vec<_>>(), ["good--A"]);
    let made: Vec<_> =
        fs::read_dir(host.quadlets()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(made, ["good.container.d"]);
}

/// A pod names its secrets itself; its unit must start after psid like a container's.
#[test]
fn unit_of_a_pod_starts_after_psid() {
    let pod = workload("myapp", &[("/myapp", false)])
        + "kube = true\ndepends_on = [\"network-online.target\"]\n";
    let other = workload("other", &[("/myapp", false)]);
    let mut host = Host::of(&json!({"/myapp": {"A": "1"}}), &(pod + &other));
    fs::write(host.quadlets().join("myapp.kube"), "[Kube]\nYaml=/pod.yaml\n").unwrap();
    let drop_in = host.quadlets().join("myapp.kube.d/50-psi.conf");
    host.set_up(&[]);
    let own = generate(&host.quadlets());
    for units in generate_by_each(&host.quadlets()).into_iter().chain([own]) {
        for part in [
            "---myapp.service---",
            "kube play",
            "Wants=psid.socket network-online.target",
            "After=psid.socket psid.service network-online.target",
        ] {
            assert!(units.contains(part), "{part}: {units}");
        }
    }
    host.dry_run(0);
    assert!(!host.quadlets().join("other.kube.d").exists());
    let doctor = host.driver(&["doctor", "--json"]).run();
    assert!(!doctor.stdout_text().contains("myapp.container.d"), "{}", doctor.stdout_text());
    fs::remove_file(&drop_in).unwrap();
    let report = host.dry_run(1);
    assert_eq!(
        (&report["drift"][0]["at"], &report["drift"][0]["name"]),
        (&json!("drop-in"), &json!("myapp"))
    );
    fs::write(&drop_in, "# mine\n").unwrap();
    let outcome = host.setup(&[]).run();
    assert!(outcome.stdout_text().contains("myapp.kube.d/50-psi.conf: it was not written by psi"));
    assert_eq!(fs::read_to_string(&drop_in).unwrap(), "# mine\n");
    fs::remove_file(&drop_in).unwrap();
    host.set_up(&[]);
    assert!(drop_in.exists());
    // It has no secret, so that it goes at once when the workload has no document; and with a removed workload.
    host.reconfigure(&(workload("myapp", &[("/myapp", false)]) + &other));
    host.set_up(&[]);
    assert!(!drop_in.exists());
    host.reconfigure(&(workload("myapp", &[("/myapp", false)]) + "kube = true\n" + &other));
    host.set_up(&[]);
    host.reconfigure(&other);
    host.set_up(&[]);
    assert!(drop_in.exists());
    host.set_up(&["--prune", "--accept-removals"]);
    assert!(!drop_in.exists() && !host.drop_in_path("myapp").exists());
}
