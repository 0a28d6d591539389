use super::*;
use proptest::prelude::*;

/// The config of interface.md, with the lines that this version has.
const FULL: &str = r#"
[cache]
enabled = true
backend = "tpm"
refresh_interval = "1h"
refresh_jitter = "5m"
max_stale = "7d"
on_revoked = "evict"

[access]
allow_uids = [0]
allow_gids = []

[providers.infisical]
api_url = "https://app.infisical.com"
ca_cert = "/etc/pki/ca.pem"
timeout = "10s"
[providers.infisical.auth]
method = "universal-auth"
client_id = "id"
client_secret_credential = "infisical-client-secret"
[providers.infisical.projects.myproject]
id = "project-uuid"
environment = "prod"

[workloads.myapp]
provider = "infisical"
depends_on = ["network-online.target"]
secrets = [{ project = "myproject", path = "/myapp", recursive = false }]
[workloads."worker@"]
provider = "infisical"
secrets = [{ project = "myproject", path = "/worker" }]
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("config.toml")).map_err(|error| error.to_string())
}

#[test]
fn the_contract_s_config_is_understood() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.cache.backend, Some(BackendTag::Tpm));
    assert_eq!(config.cache.max_stale, Some(Duration::from_secs(7 * 86_400)));
    assert!(config.cache.evict_revoked);
    let infisical = config.infisical.unwrap();
    let project = &infisical.projects["myproject"];
    assert_eq!(
        project.auth.client_secret,
        ClientSecret::Credential("infisical-client-secret".into())
    );
    assert_eq!(config.workloads["worker@"].sources[0].path, "/worker");
    assert!(config.warnings.is_empty());
}

#[test]
fn an_empty_config_has_the_documented_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.cache.backend, None);
    assert_eq!(config.cache.refresh_interval, Duration::from_secs(3_600));
    assert_eq!(config.cache.max_stale, None);
    assert_eq!(config.access, Access { uids: vec![0], gids: Vec::new() });
}

#[test]
fn a_fault_is_named_with_its_line() {
    let case = |from: &str, to: &str, expected: &str| {
        let text = FULL.replace(from, to);
        assert_ne!(text, FULL, "{from}");
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    case("max_stale", "max_stael", "config.toml:7: unknown field `max_stael`");
    case("\"tpm\"", "\"disk\"", "config.toml:4: unknown variant `disk`");
    case("\"1h\"", "\"soon\"", "config.toml:5: 'soon' is no time span");
    case("\"1h\"", "\"1ms\"", "config.toml:5: refresh_interval must be 1s or longer");
    case("\"1h\"", "\"0s\"", "config.toml:5: a time span of nothing");
    case("\"1h\"", "\"11years\"", "config.toml:5: a time span of more than ten years");
    case("[cache]", "[cash]", "config.toml:2: unknown field `cash`");
    case("universal-auth", "magic", "config.toml:19: unknown auth method 'magic'");
    case("https://app", "ftp://app", "config.toml:15: api_url must be https");
    case("https://app", "https://u:p@app", "config.toml:15: api_url must hold neither a user");
    case("client_id = \"id\"", "", "config.toml:18: universal-auth needs a client_id");
    case(
        "project = \"myproject\", path = \"/w",
        "project = \"other\", path = \"/w",
        "config.toml:32: workload 'worker@': there is no",
    );
    case(
        "path = \"/worker\"",
        "path = \"worker\"",
        "config.toml:32: workload 'worker@': path 'worker'",
    );
    case(
        "client_secret_credential = \"i",
        "client_secret_credential = \"../i",
        "config.toml:21: client_secret_credential",
    );
    case(
        "client_secret_credential",
        "client_secret_file = \"/f\"\nclient_secret_credential",
        "config.toml:18: give exactly one",
    );
    case("[cache]", "[cache", "config.toml:2: ");
}

#[test]
fn what_is_not_wise_is_said() {
    let inline = FULL.replace(
        "client_secret_credential = \"infisical-client-secret\"",
        "client_secret = \"hunter2\"",
    );
    let config = parse(&inline).unwrap();
    assert!(config.warnings[0].contains("clear text"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let http = parse(&FULL.replace("https://app", "http://app")).unwrap();
    assert!(http.warnings[0].contains("clear text"));
    assert!(
        parse(&FULL.replace("https://app.infisical.com", "http://127.0.0.1:80"))
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn no_fault_quotes_a_client_secret() {
    for value in ["12345678", "[\"hunter2\"]", "{ hunter2 = 1 }", "hunter2", "\"hunter2"] {
        let text = FULL.replace(
            "client_secret_credential = \"infisical-client-secret\"",
            &format!("client_secret = {value}"),
        );
        let error = parse(&text).unwrap_err();
        assert!(!error.contains("hunter2") && !error.contains("12345678"), "{error}");
        assert!(
            error.starts_with("config.toml:21: ") || error.starts_with("config.toml:18: "),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn parsing_is_total(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn an_unknown_key_is_always_refused(key in "[a-z_]{1,12}", table in prop::sample::select(vec!["cache", "access", "providers", "providers.infisical"])) {
        let known = ["enabled", "backend", "refresh_interval", "refresh_jitter", "max_stale", "on_revoked", "allow_uids", "allow_gids", "infisical", "nitrokeyhsm", "api_url", "ca_cert", "timeout", "auth", "projects"];
        prop_assume!(!known.contains(&key.as_str()));
        let error = parse(&format!("\n[{table}]\n{key} = 1\n")).unwrap_err();
        prop_assert!(error.starts_with("config.toml:3: unknown field"), "{error}");
    }

    #[test]
    fn any_cut_of_a_good_config_is_one_line_or_good(at in any::<prop::sample::Index>()) {
        if let Err(error) = parse(&FULL[..at.index(FULL.len())]) {
            prop_assert!(!error.contains('\n'));
        }
    }
}
