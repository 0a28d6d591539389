//! The doctor by unit: which units do not start, and the command that fixes each. Quadlets are read as quadlet itself
//! reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use psi_harness::{Driver, Host, generate, program, run_quadlet};

/// `psictl doctor` of a host's quadlets and of the units in `units` beside them.
fn doctor(host: &Host, args: &[&str]) -> Driver {
    let (program, quadlets, units) = (program("psi-driver"), host.quadlets(), units(host));
    let places = ["doctor", "--program", program.to_str().unwrap(), "--quadlets"];
    let places = [&places[..], &[quadlets.to_str().unwrap(), "--units", units.to_str().unwrap()]];
    let call = host.driver(&[&places.concat(), args].concat());
    call.env("CREDENTIALS_DIRECTORY", host.instance.credentials())
}

fn units(host: &Host) -> std::path::PathBuf {
    host.instance.directory().join("units")
}

fn report(host: &Host) -> Value {
    let outcome = doctor(host, &["--json"]).run();
    assert_eq!(outcome.stderr, "");
    serde_json::from_slice(&outcome.stdout).unwrap()
}

/// The findings of a cause: text, secrets and units.
fn findings(report: &Value, cause: &str) -> Vec<(String, Vec<String>, Vec<String>)> {
    let all = report["findings"].as_array().unwrap().iter();
    let line = |it: &Value| {
        let line = format!("{}; {}", it["what"].as_str().unwrap(), it["remedy"].as_str().unwrap());
        (line, texts(&it["affects"]), texts(&it["units"]))
    };
    all.filter(|it| it["cause"] == cause).map(line).collect()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// `NAME VERB [CAUSES]; FIX`, as the report prints it.
fn unit_lines(host: &Host) -> Vec<String> {
    let text = String::from_utf8(doctor(host, &[]).run().stdout).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("unit: ")).map(str::to_owned).collect()
}

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn container(lines: &str) -> String {
    format!("[Container]\nImage=localhost/bb:1\n{lines}")
}

/// The names of the secrets in each unit's `ExecStart=` that quadlet generated.
fn generated(output: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for part in output.split("---").collect::<Vec<_>>()[1..].chunks(2) {
        let unit = part[0].trim_start_matches('/').to_owned();
        let start = part[1].lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        let mut words = words(start).into_iter();
        let mut names = BTreeSet::new();
        while let Some(word) = words.next() {
            let spec = match word.strip_prefix("--secret=") {
                Some(spec) => Some(spec.to_owned()),
                None if word == "--secret" => words.next(),
                None => None,
            };
            names.extend(spec.map(|spec| name_of(&spec, &unit)));
        }
        all.insert(unit, names);
    }
    all
}

/// The name, as podman gets it from systemd.
fn name_of(spec: &str, unit: &str) -> String {
    let stem = unit.strip_suffix(".service").unwrap();
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let name = spec.split(',').next().unwrap();
    name.replace("%p", prefix).replace("%i", instance).replace("%%", "%")
}

/// The words of a line that quadlet escaped.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut chars, mut is_quoted) = (line.chars(), false);
    while let Some(char) = chars.next() {
        let word = words.last_mut().unwrap();
        match char {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            '\\' => match chars.next().unwrap() {
                'x' => {
                    let digits: String = chars.by_ref().take(2).collect();
                    word.push(u8::from_str_radix(&digits, 16).unwrap().into());
                }
                other => word.push(other),
            },
            other => word.push(other),
        }
    }
    words
}

#[test]
fn secrets_of_quadlets_are_those_that_quadlet_passes_to_podman() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    let quadlets = host.quadlets();
    for (name, text) in [
        ("plain.container", container("Secret=a\nSecret=b,type=env,target=B\nSecret = c d\n")),
        (
            "quoted.container",
            container("Secret=\"e,type=env\" 'f'\nSecret=g\\x68 i\\sj\nSecret=k\\q\n"),
        ),
        ("reset.container", container("Secret=no\nSecret=\nSecret=l\n[Service]\nSecret=no\n")),
        ("continued.container", container("Secret=m \\\n  # a comment\n\n n\nSecret=o\\\np\n")),
        (
            "empty.container",
            container("Secret=q \"\" no\nPodmanArgs=--secret r --secret=s,type=env\n"),
        ),
        ("named.container", container("ServiceName=other-name\nSecret=t\n")),
        ("sub/dir/deep.container", container("Secret=%%u\n")),
        ("my-big-app.container", container("Secret=v\n")),
        ("my-big-app.container.d/50.conf", "[Container]\nSecret=w\n".into()),
        ("my-.container.d/50.conf", "[Container]\nSecret=no\n".into()),
        ("my-.container.d/40.conf", "[Container]\nSecret=x\n".into()),
        ("container.d/99-all.conf", "[Container]\nSecret=everywhere\n".into()),
        ("container.d/not-a-drop-in.txt", "[Container]\nSecret=no\n".into()),
        ("sub/dir/plain.container", container("Secret=no\n")),
        ("sub/plain.container.d/10.conf", "[Container]\nSecret=y\n".into()),
        ("web@.container", container("Secret=%p-%i\n")),
        ("web@eu.container.d/a.conf", "[Container]\nSecret=z\n".into()),
    ] {
        write(&quadlets, name, &text);
    }
    let link = quadlets.join("web@eu.container");
    std::os::unix::fs::symlink(quadlets.join("web@.container"), link).unwrap();
    let mut expected = generated(&generate(&quadlets));
    assert_eq!(expected.len(), 10, "{expected:?}");
    // Only an instance has the name of one.
    expected.get_mut("web@.service").unwrap().retain(|name| name != "web-");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let report = report(&host);
    for (_, names, units) in findings(&report, "secret-missing") {
        for unit in units {
            found.entry(unit).or_default().extend(names.clone());
        }
    }
    assert_eq!(found, expected);
    assert_eq!(findings(&report, "quadlet-refused"), []);
}

/// One file that quadlet cannot parse costs every unit of its directory.
#[test]
fn files_that_quadlet_refuses_are_reported_with_their_line() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    let quadlets = host.quadlets();
    for (name, text) in [
        ("imageless.container", "[Container]\nSecret=b\n".into()),
        ("app.container", container("")),
        ("app.container.d/50-psi.conf", "Secret=c\n".into()),
        ("fine.container", container("")),
        ("sub/broken.container", container("Secret=a\nnonsense\n")),
        ("sub/beside.container", container("")),
        ("sub/below/fine-too.container", container("")),
        ("net/app.network", "nonsense\n".into()),
        ("net/with-network.container", container("")),
    ] {
        write(&quadlets, name, &text);
    }
    let of_quadlet = run_quadlet(&quadlets);
    assert_eq!(of_quadlet.code, 1, "{}", of_quadlet.stderr);
    let generated: Vec<String> = generated(&of_quadlet.stdout_text()).into_keys().collect();
    assert_eq!(generated, ["app.service", "fine-too.service", "fine.service"]);
    let report = report(&host);
    let refused = findings(&report, "quadlet-refused");
    let sub = "sub/broken.container: line 4 is neither a section, KEY=VALUE nor a comment";
    for (units, words) in [
        (
            &["imageless.service"][..],
            "imageless.container: [Container] has neither Image= nor Rootfs=",
        ),
        (&["app.service"], "ignores a drop-in: "),
        (&["beside.service", "broken.service"], sub),
        (&["with-network.service"], "net/app.network: line 1 is neither"),
    ] {
        let one = refused.iter().find(|(_, _, of)| of == units);
        assert!(one.is_some_and(|(line, _, _)| line.contains(words)), "{units:?}: {refused:#?}");
    }
    assert_eq!(refused.len(), 4);
    let lost: Vec<String> =
        report["units"].as_array().unwrap().iter().map(|it| it["unit"].to_string()).collect();
    assert!(
        generated.iter().skip(1).all(|unit| !lost.contains(&format!("\"{unit}\""))),
        "{lost:?}"
    );
}

#[test]
fn each_unit_has_the_command_that_fixes_it() {
    let mut host = Host::with_myapp(&json!({"A": "1"}));
    host.write_quadlet("myapp");
    host.set_up(&[]);
    write(&host.quadlets(), "hand.container", &container("Secret=db_pw,type=env\n"));
    write(&host.quadlets(), "fine.container", &container("Secret=ready\n"));
    host.podman.create("ready", "a literal");
    write(
        &units(&host),
        "old.service",
        "[Service]\nExecStart=/usr/bin/podman run --secret db_pw --secret myapp--A image\n",
    );
    let hand = "hand.service does not start [secret-missing]; `podman secret create db_pw -`";
    let old = "old.service does not start [secret-missing]; `podman secret create db_pw -`";
    assert_eq!(unit_lines(&host), [hand, old]);
    let report = report(&host);
    let all = findings(&report, "secret-missing");
    let [(line, secrets, units)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((secrets.as_slice(), units.len()), (&["db_pw".to_owned()][..], 2));
    assert!(line.contains("podman has no secret db_pw, named by hand.service (/"), "{line}");
    assert_eq!(
        report["units"][0],
        json!({
            "unit": "hand.service",
            "kind": "quadlet",
            "starts": false,
            "causes": ["secret-missing"],
            "fix": "podman secret create db_pw -",
        })
    );
    host.podman.create("db_pw", "a literal");
    assert_eq!(unit_lines(&host), Vec::<String>::new());
    host.podman.ok(&["secret", "rm", "myapp--A"]);
    let setup = "does not start [secret-missing]; `psictl setup`";
    assert_eq!(
        unit_lines(&host),
        [format!("myapp.service {setup}"), format!("old.service {setup}")]
    );
    host.set_up(&[]);
    host.stop_psid();
    let down = unit_lines(&host);
    let names = ["fine", "hand", "myapp", "old"];
    assert_eq!(down.len(), names.len(), "{down:?}");
    for (line, name) in down.iter().zip(names) {
        let start = format!("{name}.service does not start [psid-down]; `systemctl ");
        assert!(line.starts_with(&start), "{line}");
    }
}

/// Podman starts the container without its variables, and says nothing.
#[test]
fn drop_in_that_is_gone_or_empty_is_reported() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    host.write_quadlet("myapp");
    host.set_up(&[]);
    let path = host.drop_in_path("myapp");
    let text = fs::read_to_string(&path).unwrap();
    let starts = |cause: &str| {
        let line = format!("myapp.service starts without its secrets [{cause}]; `psictl setup`");
        assert_eq!(unit_lines(&host), [line]);
        let all = findings(&report(&host), cause);
        assert_eq!(all[0].1, ["myapp--A", "myapp--B"], "{all:?}");
    };
    fs::remove_file(&path).unwrap();
    starts("drop-in-missing");
    // As after a power cut.
    fs::write(&path, "").unwrap();
    starts("drop-in-empty");
    fs::write(&path, text.split_inclusive('\n').next().unwrap()).unwrap();
    starts("drop-in-empty");
    host.set_up(&[]);
    assert_eq!(host.drop_in("myapp"), text);
    let one = text.lines().filter(|line| !line.contains("myapp--B")).collect::<Vec<_>>().join("\n");
    fs::write(&path, one).unwrap();
    let all = findings(&report(&host), "drop-in-outdated");
    assert!(all[0].0.contains("starts without 1 secret of its workload"), "{all:?}");
    assert_eq!(unit_lines(&host), Vec::<String>::new(), "a warning");
    // The quadlet itself may name them.
    fs::remove_file(&path).unwrap();
    let own = "Secret=myapp--A,type=env\nSecret=myapp--B,type=env\n";
    write(&host.quadlets(), "myapp.container", &container(own));
    assert_eq!(report(&host)["well"], true);
}

/// Rootless podman has a store of its own.
#[test]
fn secret_of_root_that_a_users_unit_names_is_reported() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.podman.create("shared", "a literal");
    let home = host.instance.directory().join("home");
    write(&home, ".config/containers/systemd/app.container", &container("Secret=shared\n"));
    write(
        &units(&host),
        "by-root.service",
        "[Service]\nUser=web\nExecStart=podman run --secret own x\n",
    );
    let passwd = host.instance.directory().join("passwd");
    let users = format!("root:x:0:0::/root:/bin/sh\nweb:x:1234:1234::{}:/bin/sh\n", home.display());
    fs::write(&passwd, users).unwrap();
    let script =
        "unshare --mount sh -c 'mount --bind \"$0\" /etc/passwd; exec \"$@\"' \"$PASSWD\" \"$@\"";
    let call = doctor(&host, &["--json"])
        .env("PASSWD", &passwd)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let outcome = call.through_shell(script);
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let of_root = findings(&report, "secret-of-root");
    assert_eq!(of_root.len(), 1, "{report:#}");
    assert_eq!(of_root[0].2, ["app.service of web"]);
    let words = "has no secret shared, and does not see root's secret of this name";
    assert!(of_root[0].0.contains(words), "{of_root:?}");
    assert!(of_root[0].0.ends_with("as web: `podman secret create shared -`"), "{of_root:?}");
    let missing = findings(&report, "secret-missing");
    assert_eq!(missing[0].2, ["by-root.service of web"], "{missing:?}");
}

/// A container that exists is started again by compose, a unit or podman.
#[test]
fn containers_of_compose_are_named_by_their_service() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.podman.create("web_key", "a literal");
    let labels =
        ["--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=web"];
    let create = ["create", "--name=shop_web_1", "--secret=web_key"];
    host.podman.ok(&[&create[..], &labels, &["localhost/bb:1", "true"]].concat());
    host.podman.ok(&["secret", "rm", "web_key"]);
    let line = "compose service web of shop does not start again [secret-missing]; `podman secret create web_key -`";
    assert_eq!(unit_lines(&host), [line]);
    assert_eq!(report(&host)["units"][0]["kind"], "compose");
}

#[test]
fn ids_are_shown_with_their_names() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.podman.create("other", psi_harness::reference("/elsewhere", "K"));
    host.set_up(&[]);
    let id = &host.ids()["other"];
    let status = host.driver(&["cache", "status"]).run().stdout_text();
    assert!(status.contains(&format!("psid would NOT serve other ({id})")), "{status}");
    let json: Value =
        serde_json::from_slice(&host.driver(&["cache", "status", "--json"]).run().stdout).unwrap();
    assert_eq!((&json["would_fail"], &json["names"][id]), (&json!([id]), &json!("other")));
    let drill = host.driver(&["drill", "--for", "1s"]).run().stdout_text();
    assert!(drill.contains(&format!("1 would NOT be served: other ({id})")), "{drill}");
    let file = host.instance.state().join("secrets").join(id);
    fs::write(file, "garbage").unwrap();
    let mut host = host;
    host.stop_psid();
    host.start_psid();
    let status = host.driver(&["cache", "status"]).run().stdout_text();
    assert!(status.contains(&format!("secret other ({id}) is not usable")), "{status}");
}
