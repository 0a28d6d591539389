//! Templates of `psictl render`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{myapp, names, ram};

const ODD: &str = "it's \"x\" \\ $HOME";

#[test]
fn render_fills_templates_escaped_for_their_file() {
    let (infisical, instance, _psid) =
        myapp(&json!({"USER_OF": "app", "PW": ODD, "tls.pem": "P\n"}));
    let ram = ram();
    let directory = ram.path().join("secrets");
    let write = |name: &str, text: &str| {
        let path = ram.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let render =
        |args: &[&str]| instance.driver(&[&["render", directory.to_str().unwrap()], args].concat());
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let json = write(
        "app.json.tmpl",
        "{\"db\": {\"url\": \"pg://{{ secret \"USER_OF\" }}:{{secret \"PW\"}}@db\"}}\n",
    );
    render(&["--template", &json, "--escape", "json"]).ok();
    let parsed: Value = serde_json::from_str(&read("app.json")).unwrap();
    assert_eq!(parsed, json!({"db": {"url": format!("pg://app:{ODD}@db")}}));
    let mode = fs::metadata(directory.join("app.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o400);
    // The file of the template before goes: it is not written any more.
    let shell = write("app.sh", "PW={{ secret \"PW\" }}\n");
    render(&["--template", &shell, "--escape", "shell", "--mode", "0440"]).ok();
    assert_eq!(names(&directory), ["app.sh"]);
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", ". \"$0\"; printf %s \"$PW\""]).arg(directory.join("app.sh"));
    assert_eq!(psi_harness::run(sh, b"").stdout_text(), ODD);
    let plain = write("app.ini", "user={{ secret \"USER_OF\" }}\n{{ secret \"tls.pem\" }}");
    render(&["--template", &plain, "--template", &shell]).ok();
    assert_eq!(names(&directory), ["app.ini", "app.sh"]);
    assert_eq!(read("app.ini"), "user=app\nP\n");
    assert_eq!(read("app.sh"), format!("PW={ODD}\n"));
    infisical.put("/myapp", "USER_OF", "other");
    instance.driver(&["cache", "refresh"]).ok();
    let output = render(&["--template", &plain]).text();
    assert!(output.starts_with("1 file in "), "{output}");
    assert_eq!(read("app.ini"), "user=other\nP\n");
}

#[test]
fn render_writes_nothing_of_a_template_with_a_fault() {
    let (_infisical, instance, _psid) = myapp(&json!({"A": "hunter2", "BYTES": "a\0"}));
    let ram = ram();
    let directory = ram.path().join("secrets");
    let good = ram.path().join("good");
    fs::write(&good, "{{ secret \"A\" }}").unwrap();
    let bad = ram.path().join("bad.tmpl");
    let render = |escape: &str| {
        let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
        let directory = directory.to_str().unwrap();
        let args = ["render", directory, "--template", good, "--template", bad, "--escape", escape];
        instance.driver(&args).fails(65)
    };
    for (text, escape, place, why) in [
        ("x\n  {{ secret \"NONE\" }}", "none", "2:3", "there is no key 'NONE'"),
        ("{{ .Values.a }}", "none", "1:1", "{{ is not followed by secret"),
        ("ä {{ secret \"A\" }", "none", "1:3", "the key is not followed by }}"),
        ("{{ secret \"BYTES\" }}", "shell", "1:1", "the value of BYTES has a NUL"),
    ] {
        fs::write(&bad, text).unwrap();
        let line = render(escape);
        assert!(line.contains(&format!("bad.tmpl:{place}: {why}")), "{line}");
        assert!(line.contains("nothing was written") && !line.contains("hunter2"), "{line}");
        assert!(names(&directory).is_empty());
    }
    fs::write(&bad, b"\xff").unwrap();
    assert!(render("none").contains("is not UTF-8"));
}

/// A key of Kubernetes' registries; only `render`'s own names are refused.
#[test]
fn render_writes_keys_that_begin_with_a_dot() {
    let (_infisical, instance, _psid) = myapp(&json!({".dockerconfigjson": "{}", "A": "1"}));
    let ram = ram();
    let directory = ram.path().join("secrets");
    let render = instance.driver(&["render", directory.to_str().unwrap()]);
    render.ok();
    assert_eq!(fs::read(directory.join(".dockerconfigjson")).unwrap(), b"{}");
}
