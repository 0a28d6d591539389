//! `psictl import quadlet` beside quadlet itself: the imported values are those of the unit that quadlet generates.

mod real_units;
mod view;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use psi_harness::{Host, PROJECT};
use serde_json::Value;

use super::sources::{given, host, import};
use view::View;

/// Lines of `[Container]` with the keys that psictl imports; the others it leaves out, with a warning and status 1.
const CASES: [(&str, &[&str], bool); 15] = [
    ("Environment=A=1 B=2\nEnvironment=\"C=two words\" 'D=x y'", &["A", "B", "C", "D"], true),
    ("Environment=A=a=b \\\n  B=2\n# no\n;no\nEnvironment=C=#3", &["A", "B", "C"], true),
    ("Environment=A=1\nEnvironment=\nEnvironment=B=2", &["B"], true),
    ("Environment=A=\"x y\" B=a\\x41\\tb C=\\\\", &["A", "B", "C"], true),
    ("Environment=A=%%h B=$$x", &["A", "B"], true),
    ("Environment=A=%h B=2", &["B"], false),
    ("Environment=A=1 B=${X}", &["A"], false),
    ("Environment=A=1 A=2", &["A"], true),
    ("Environment=A=1 A=%h", &[], false),
    ("  Environment = A=1  ", &["A"], true),
    ("Environment=A='{\"a\": [\"b\", 1]}'", &["A"], true),
    ("EnvironmentFile=one.env\nEnvironment=A=1", &["A", "FROM_ONE"], true),
    ("EnvironmentFile=%h/one.env\nEnvironment=A=1", &["A"], false),
    ("Secret=db--pw,type=env,target=PW\nSecret=tls,target=/run/tls.pem", &["PW", "tls.pem"], true),
    ("Secret=%p--pw,type=env,target=PW\nEnvironment=A=1", &["A"], false),
];

/// What psictl does with a unit.
enum Import {
    /// The values, and whether nothing was left out.
    Done(BTreeMap<String, String>, bool),
    /// The error.
    Refused(String),
}

#[test]
fn import_gives_the_values_that_quadlet_gives() {
    let host = host();
    for (nth, (lines, keys, is_whole)) in CASES.iter().enumerate() {
        let unit = Unit::new(&host, nth, "app.container");
        unit.write(&format!("[Unit]\nDescription=x\n[Container]\nImage=localhost/x:1\n{lines}\n"));
        let view = View::of(&unit).unwrap_or_else(|why| panic!("quadlet refuses {lines}: {why}"));
        match unit.import() {
            Import::Done(values, whole) => {
                assert_eq!(values.keys().collect::<Vec<_>>(), *keys, "{lines}");
                assert_eq!(whole, *is_whole, "{lines}");
                view.assert_same(&values, whole, lines);
            }
            Import::Refused(why) => {
                assert!(keys.is_empty() && view.values.is_empty(), "{lines}: {why}");
            }
        }
    }
}

/// Quadlet merges them into the unit. psi's own has references, whose values are at the provider.
#[test]
fn import_merges_the_drop_ins_of_a_unit() {
    let host = host();
    host.podman.create("theirs", view::secret_value("theirs"));
    let unit = Unit::new(&host, 0, "my-app.container");
    unit.write("[Container]\nImage=localhost/x:1\nEnvironment=A=1 B=1\n");
    for (path, text) in [
        ("my-app.container.d/10-own.conf", "[Container]\nEnvironment=B=2 C=2\n"),
        ("my-.container.d/20-prefix.conf", "[Container]\nSecret=theirs,type=env,target=D\n"),
        ("container.d/30-all.conf", "[Container]\nEnvironment=C=3\n"),
        ("other.container.d/10-own.conf", "[Container]\nEnvironment=A=4\n"),
        ("my-app.container.d/10-own.txt", "[Container]\nEnvironment=A=5\n"),
    ] {
        let path = unit.directory().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let Import::Done(values, true) = unit.import() else { panic!("it is left out in part") };
    View::of(&unit).unwrap().assert_same(&values, true, "drop-ins");
    let expected = [("A", "1"), ("B", "2"), ("C", "3"), ("D", "the secret theirs")];
    assert_eq!(values, expected.map(|(key, value)| (key.into(), value.into())).into());

    host.set_up(&[]);
    let text = format!("{}\nSecret=myapp--THERE,type=env,target=AGAIN\n", host.drop_in("myapp"));
    let app = host.quadlets().join("myapp.container");
    fs::write(host.drop_in_path("myapp"), text).unwrap();
    fs::write(&app, "[Container]\nImage=x\nEnvironment=NEW=1\n").unwrap();
    let outcome = import(&host, &["quadlet", app.to_str().unwrap()]).run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("50-psi.conf has secrets of psi"), "{}", outcome.stderr);
    let report = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(super::fates(&report), ["created NEW"]);
    assert_eq!(given(&host, "NEW"), "1");
}

/// Quadlet would cut the value at the blank, without a word.
#[test]
fn import_names_the_variable_of_a_value_without_quotes() {
    let host = host();
    let unit = Unit::new(&host, 0, "app.container");
    unit.write("[Container]\nImage=x\nEnvironment=A=1\nEnvironment=B=@every -hunter2\n");
    let line = unit.command().fails(65);
    assert!(line.contains("has a word without a variable name after B;"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
    assert_eq!(View::of(&unit).unwrap().values["B"], "@every");
}

/// Their values are in the container too.
#[test]
fn import_names_variables_of_podman_args() {
    let host = host();
    let unit = Unit::new(&host, 0, "app.container");
    unit.write("[Container]\nImage=x\nEnvironment=A=1\nPodmanArgs=--env B=hunter2 --secret=s\n");
    let outcome = unit.command().run();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("has --env; it is left out"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("has --secret; it is left out"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
}

/// A unit in a directory of its own, whose variables are imported into a directory of that name.
struct Unit<'a> {
    host: &'a Host,
    /// Its directory at the provider.
    target: String,
    path: PathBuf,
}

impl<'a> Unit<'a> {
    fn new(host: &'a Host, nth: usize, name: &str) -> Self {
        let directory = host.instance.directory().join(format!("q{nth}"));
        fs::create_dir_all(&directory).unwrap();
        Self { host, target: format!("/q{nth}"), path: directory.join(name) }
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap()
    }

    /// Writes the unit, and the env-files, units and secrets that it names.
    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
        for line in text.lines() {
            let line = line.trim();
            if let Some((key, value)) = line.split_once('=') {
                match key.trim() {
                    "EnvironmentFile" => self.write_env_file(value.trim()),
                    "Secret" => self.create_secret(value.trim()),
                    _ => self.write_unit_of(value),
                }
            }
        }
    }

    /// An env-file with one variable, named like it.
    fn write_env_file(&self, name: &str) {
        if name.contains('%') {
            return;
        }
        let path = self.directory().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_uppercase();
        let variable = stem.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        fs::write(path, format!("FROM_{variable}=in {name}\n")).unwrap();
    }

    /// The units of other types in a value: quadlet refuses a unit without them.
    fn write_unit_of(&self, value: &str) {
        for name in value.trim().trim_matches(['"', '\'']).split(['=', ':', ',']) {
            let section = match name.rsplit_once('.') {
                Some((_, "network")) => "[Network]\n",
                Some((_, "pod")) => "[Pod]\n",
                Some((_, "volume")) => "[Volume]\n",
                Some((_, "image")) => "[Image]\nImage=localhost/x:1\n",
                Some((_, "build")) => "[Build]\nImageTag=localhost/x:1\nSetWorkingDirectory=unit\n",
                Some((_, "container")) => "[Container]\nImage=localhost/x:1\n",
                _ => continue,
            };
            let path = self.directory().join(name);
            if !name.contains(['/', ' ', '%']) && !path.exists() {
                fs::write(path, section).unwrap();
            }
        }
    }

    fn create_secret(&self, spec: &str) {
        let name = spec.trim_matches('"').split(',').next().unwrap();
        if !name.contains(['%', '/', '=', ' ']) && !self.host.ids().contains_key(name) {
            self.host.podman.create(name, view::secret_value(name));
        }
    }

    fn command(&self) -> psi_harness::Driver {
        let unit = self.path.to_str().unwrap();
        let args = ["import", "quadlet", unit, "--project", "myproject", "--path", &self.target];
        self.host.driver(&[&args[..], &["--make-folder", "--json"]].concat())
    }

    fn import(&self) -> Import {
        let outcome = self.command().run();
        match outcome.code {
            0 | 1 => Import::Done(self.imported(), outcome.code == 0),
            _ => Import::Refused(without_names(&outcome.stderr)),
        }
    }

    /// The values that the provider has now.
    fn imported(&self) -> BTreeMap<String, String> {
        let state = self.host.infisical.control("GET", "/state", &Value::Null);
        let mut projects = state["projects"].as_array().unwrap().iter();
        let project = projects.find(|project| project["id"] == PROJECT).unwrap();
        let secrets = project["secrets"]["prod"][&self.target].as_object().unwrap();
        let value = |secret: &Value| secret["value"].as_str().unwrap().to_owned();
        secrets.iter().map(|(key, secret)| (key.clone(), value(secret))).collect()
    }
}

/// An error without the names of this run.
fn without_names(stderr: &str) -> String {
    let line = stderr.lines().last().unwrap_or_default();
    let words = line.split(' ').map(|word| if word.contains('/') { "FILE" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
