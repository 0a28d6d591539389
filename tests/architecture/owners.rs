//! Crates, calls and secrets that belong to single modules, and what a module is free of.

use super::exceptions;
use super::layers::is_in;
use super::modules::{CRATES, Module, Modules, repository};

/// Every module, by its path with its crate: `daemon::cache::entry`.
fn all() -> Vec<(String, &'static Module)> {
    let mut all = Vec::new();
    for name in CRATES {
        for (path, module) in Modules::of_crate(name).all() {
            let path = std::iter::once(name).chain(path.iter().map(String::as_str));
            all.push((path.collect::<Vec<_>>().join("::"), module));
        }
    }
    assert!(all.len() > 100, "the sources are elsewhere: {} modules", all.len());
    all
}

/// Asserts that `is_used` holds in these modules, in each of them, and in no other.
#[track_caller]
fn assert_only_in(what: &str, places: &[&str], is_used: impl Fn(&Module) -> bool) {
    let found: Vec<String> =
        all().into_iter().filter(|(_, module)| is_used(module)).map(|(path, _)| path).collect();
    let strays: Vec<&String> =
        found.iter().filter(|path| !places.iter().any(|place| is_in(path, place))).collect();
    assert!(strays.is_empty(), "`{what}` belongs to {places:?} and is in {strays:?}");
    for place in places {
        let used = found.iter().any(|path| is_in(path, place));
        assert!(used, "`{what}` is no longer in {place}: correct the rule");
    }
}

/// The code is in these modules and in no other.
#[track_caller]
fn only_in(code: &str, places: &[&str]) {
    assert_only_in(code, places, |module| module.has(code));
}

/// A string literal with the text is in these modules and in no other.
#[track_caller]
fn text_only_in(text: &str, places: &[&str]) {
    assert_only_in(text, places, |module| module.has_text(text));
}

#[track_caller]
fn assert_free_of(place: &str, words: &[&str]) {
    let all = all();
    let modules: Vec<_> = all.iter().filter(|(path, _)| is_in(path, place)).collect();
    assert!(!modules.is_empty(), "there is no module {place}: correct the rule");
    for (path, module) in modules {
        for word in words {
            let fault = format!("{path} has `{word}`");
            assert!(!module.has(word) || exceptions::WORDS.contains(&fault.as_str()), "{fault}");
        }
    }
}

#[test]
fn shared_crates_and_programs_import_no_program() {
    let forbidden = [
        ("proto", &["psi_common", "psi_daemon", "psi_driver"][..]),
        ("common", &["psi_proto", "psi_daemon", "psi_driver"]),
        ("driver", &["psi_daemon"]),
        ("daemon", &["psi_driver"]),
    ];
    for (name, forbidden) in forbidden {
        assert_free_of(&format!("{name}::"), forbidden);
        let manifest = repository().join(name).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
        for name_of_other in forbidden {
            let name_of_other = name_of_other.replace('_', "-");
            assert!(!dependencies.contains(&name_of_other), "{name} depends on {name_of_other}");
        }
    }
}

#[test]
fn each_external_crate_is_used_by_its_owner_only() {
    // gRPC. The messages are plain structs, which psictl prints and fills in.
    only_in("tonic", &["daemon::grpc::", "proto::"]);
    only_in("psi_proto", &["driver::", "daemon::grpc::"]);
    only_in("prost", &["daemon::storage::payload", "proto::"]);
    // Podman, by its command and its files.
    only_in("Command::new(\"podman\")", &["driver::ctl::names", "driver::ctl::podman::"]);
    text_only_in("secrets.json", &["driver::ctl::doctor::disk", "driver::ctl::podman::"]);
    // HTTP and TLS.
    only_in("reqwest", &["daemon::provider::infisical::"]);
    only_in("rustls", &["daemon::provider::infisical::"]);
    only_in("aws_sigv4", &["daemon::provider::infisical::auth::aws"]);
    // The cipher.
    only_in("aes_gcm", &["daemon::crypto::aead"]);
    only_in(
        "sha2",
        &[
            "daemon::legacy::",
            // What an ECDSA signature of the token covers.
            "daemon::keys::pkcs11::signing",
            // The cache key of a sealed secret.
            "daemon::provider::pkcs11_sealed",
            "daemon::crypto::rsa",
            // A checksum that needs no key.
            "daemon::registry::reference_file",
            // What is kept of a refused login.
            "daemon::storage::failed_logins::table",
            "daemon::crypto::aead",
        ],
    );
    only_in("hmac", &["daemon::legacy::", "daemon::storage::failed_logins::table"]);
    only_in("use rsa", &["daemon::crypto::rsa"]);
    // The token.
    only_in("cryptoki", &["daemon::keys::pkcs11::"]);
    // Config.
    only_in("toml::from_str", &["daemon::config::", "daemon::cli::doctor::containers_conf"]);
    only_in(
        "serde",
        &[
            // The JSON of reports.
            "common::finding",
            "common::online_report",
            "common::problem",
            "driver::ctl::",
            "daemon::config::",
            "daemon::legacy::",
            "daemon::provider::infisical::",
            "daemon::provider::pkcs11_sealed",
            "daemon::storage::failed_logins::table",
        ],
    );
    // The service manager and the log.
    only_in("libsystemd", &["daemon::runtime::listener"]);
    only_in("sd_notify", &["daemon::sys::notify"]);
    text_only_in(
        "systemd-creds",
        &[
            "daemon::keys::",
            // psictl runs it for `seal` and `init`.
            "driver::ctl::seal",
            "driver::ctl::seal::",
        ],
    );
    only_in("tracing_subscriber", &["daemon::sys::logging"]);
}

#[test]
fn clock_environment_and_sleep_are_used_by_their_owners_only() {
    only_in("SystemTime::now", &["daemon::sys::clock", "driver::ctl::status"]);
    only_in(
        "env::var",
        &[
            "common::paths",
            "daemon::cli::environment",
            // systemd's own variable for the TPM, as its programs read it.
            "daemon::keys::credential::tpm",
        ],
    );
    only_in("env::var_os", &["driver::args", "driver::ctl::args"]);
    only_in("thread::sleep", &["common::file_lock", "driver::client"]);
    for word in ["process::exit", "time::sleep", "env::vars", "set_var", "std::env::args"] {
        assert!(!all().iter().any(|(_, module)| module.has(word)), "{word}");
    }
    // Time is an argument. It is read where calls arrive, where a task begins, where a file is written or
    // named by it, and where a login's proof is made or checked.
    only_in(
        "clock::now",
        &[
            "daemon::runtime::",
            "daemon::cli::check::online",
            "daemon::grpc::",
            "daemon::storage::cache_file",
            "daemon::provider::infisical::auth::aws",
            "daemon::provider::infisical::auth::jwt",
            "daemon::provider::infisical::auth::tls_cert::",
            "daemon::storage::failed_logins::",
        ],
    );
}

#[test]
fn secrets_are_exposed_only_where_they_are_used() {
    only_in(
        "expose_secret",
        &[
            "common::secret_bytes",
            "common::secret_string",
            // A client secret in the config itself.
            "daemon::config::auth",
            "daemon::grpc::driver",
            // The recovery key is displayed, once.
            "daemon::cli::init",
            // A value that a provider would expand is recognised by its bytes.
            "daemon::import",
            "daemon::keys::",
            "daemon::legacy::",
            "daemon::storage::payload",
            "daemon::provider::",
            "daemon::crypto::rsa",
            "daemon::crypto::recovery_key",
            "daemon::registry",
            "daemon::registry::changes",
            "daemon::registry::sealing",
            "daemon::crypto::aead",
            // A reference is recognised by its JSON.
            "daemon::lookup::kube::document",
            "daemon::lookup::registrations",
            // Whether a value that psid does not keep is another one.
            "daemon::lookup::value_version",
            // A value that a variable cannot hold is recognised by its bytes.
            "daemon::workloads::",
            "driver::client",
            "driver::ctl::client",
            // Files to import are parsed.
            "driver::ctl::import::",
            // A command's environment, and files in RAM.
            "driver::ctl::export::",
            // Podman's own records; those of its file driver contain values.
            "driver::ctl::podman::",
            // A client secret and a PIN are read from a file and handed to systemd-creds and psid; a recovery key is
            // shown and typed back.
            "driver::ctl::init::",
            "driver::ctl::seal",
            "driver::ctl::seal::",
            "driver::stdio",
        ],
    );
    only_in(
        "into_exposed",
        &["common::secret_bytes", "common::secret_string", "daemon::grpc::admin"],
    );
}

/// A new place needs a reason.
#[test]
fn unsafe_code_is_in_listed_modules_only() {
    let agreed = [
        "daemon::runtime::listener",
        "daemon::sys::cgroup_id",
        "daemon::sys::descriptor",
        "daemon::sys::malloc",
        // A hook between fork and exec.
        "driver::ctl::psid",
        "driver::stdio",
    ];
    only_in("unsafe", &agreed);
    only_in("unsafe_code", &agreed);
}

/// gRPC calls the service's methods and the runtime's `Control`, and reaches through neither.
#[test]
fn grpc_uses_only_methods_of_the_service() {
    let parts =
        [".registry", ".cache", ".readiness", ".drill", "service.tasks", "Pkcs11Sealed", "Runtime"];
    assert_free_of("daemon::grpc::", &parts);
}

#[test]
fn lookup_uses_no_disk_and_no_network() {
    let words =
        ["fs", "File", "OpenOptions", "tonic", "psi_proto", "reqwest", "rustix", "nix", "process"];
    assert_free_of("daemon::lookup::", &words);
}

/// Podman runs psi-driver once for each secret: its program stays small.
#[test]
fn psi_driver_uses_no_json_clap_or_async_runtime() {
    for module in ["args", "client::", "error", "psictl", "stdio", "verbs", "wire::"] {
        assert_free_of(&format!("driver::{module}"), &["clap", "serde", "serde_json", "tokio"]);
    }
}

/// Property tests and fuzzing work on functions of their arguments.
#[test]
fn pure_modules_use_no_task_disk_clock_or_environment() {
    let impure = [
        "tokio",
        "async",
        "fs",
        "File",
        "env",
        "SystemTime",
        "Instant",
        "rustix",
        "nix",
        "tracing",
    ];
    for place in [
        "daemon::cache::",
        "daemon::crypto::",
        "daemon::legacy",
        "daemon::legacy::mapping",
        "daemon::model::reference",
        "daemon::model::reach",
        "daemon::registry::reference_file",
        "daemon::storage::payload",
    ] {
        assert_free_of(place, &impure);
    }
    assert_free_of(
        "daemon::refresh::schedule",
        &["tokio", "async", "Instant", "getrandom", "tracing"],
    );
    // The circuit breaker takes from tokio only the type of monotonic time.
    let all = all();
    let breaker = all.iter().find(|(path, _)| path == "daemon::provider::circuit_breaker");
    let (_, breaker) = breaker.unwrap();
    assert!(breaker.has("use tokio::time::Instant;") && !breaker.has("Instant::now"));
    assert_eq!(breaker.tokens.iter().filter(|token| *token == "tokio").count(), 1);
}

/// A main hands over to the library, and returns.
#[test]
fn main_has_at_most_15_lines() {
    for directory in ["daemon/src", "driver/src", "driver/src/bin"] {
        let Ok(files) = std::fs::read_dir(repository().join(directory)) else { continue };
        let files = files.map(|file| file.unwrap().path());
        let is_main = |path: &std::path::PathBuf| {
            path.ends_with("main.rs") || (directory.ends_with("bin") && path.is_file())
        };
        for path in files.filter(is_main) {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines =
                text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("//"));
            let lines = lines.count();
            assert!(lines <= 15, "{} has {lines} lines", path.display());
        }
    }
}

/// The modules of a crate with one file.
fn one_file(text: &'static str) -> Modules {
    let read = move |_: &std::path::Path| Some(text.to_owned());
    Modules::parse(std::path::Path::new("lib.rs"), &read)
}

#[test]
fn checker_ignores_comments_and_tests() {
    let modules = one_file(
        "//! reqwest\n/// tonic\nfn f() { /* cryptoki */ g(\"a systemd-creds b\", std::env::var(\"X\")); }\n\
         #[cfg(test)]\nmod tests { use sha2; }\n#[cfg(test)] use hmac::A;\n#[allow(unsafe_code)] fn h() {}",
    );
    let (_, module) = modules.all().next().unwrap();
    for absent in ["reqwest", "tonic", "cryptoki", "sha2", "hmac", "env::vars", "unsafe", "ar"] {
        assert!(!module.has(absent), "{absent}");
    }
    for present in ["env::var", "std::env::var(\"X\")", "unsafe_code", "f", "h"] {
        assert!(module.has(present), "{present}");
    }
    assert!(module.has_text("systemd-creds") && !module.has_text("reqwest"));
}
