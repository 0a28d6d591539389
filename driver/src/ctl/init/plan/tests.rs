//! The plan of each situation.

use psi_common::Scope;
use psi_proto::v1::{ProviderStatus, RefreshSummary, StatusResponse, Tristate};

use super::*;

fn paths() -> Paths {
    Paths { config: "/etc/psi/config.toml".into(), ..Paths::new(Scope::System) }
}

fn target<'a>(paths: &'a Paths, found: &'a Found) -> Target<'a> {
    Target {
        paths,
        found,
        manager: None,
        user: Some("psi"),
        login: Some("https://host as client".into()),
        credentials: vec![Credential { name: CLIENT_SECRET.into(), is_sealed: false }],
        config: ConfigState::Template,
        backend: Some(Backend::Tpm),
        key_flags: String::new(),
        seal_flags: String::new(),
        sealed_to: "to this host's TPM".into(),
        key_sealed_to: "to this host's TPM".into(),
        program_flags: String::new(),
        workloads: vec!["app".into()],
        units: Vec::new(),
    }
}

fn of(steps: &[InitStep], kind: &StepKind) -> InitStep {
    steps.iter().find(|step| step.kind == *kind).unwrap().clone()
}

/// A psid that serves with the tpm backend.
fn serving() -> Found {
    let provider = ProviderStatus { up: Tristate::Yes.into(), ..ProviderStatus::default() };
    let status = StatusResponse {
        backend: "tpm".into(),
        providers: vec![provider],
        last_refresh: Some(RefreshSummary::default()),
        ..StatusResponse::default()
    };
    Found {
        has_key: true,
        has_cache: true,
        is_active: true,
        is_enabled: true,
        has_drop_in: true,
        status: Some(status),
    }
}

#[test]
fn login_comes_before_everything_that_is_written() {
    let (paths, found) = (paths(), Found::default());
    let steps = plan(&target(&paths, &found));
    let kinds: Vec<&StepKind> = steps.iter().map(|step| &step.kind).collect();
    let seal = StepKind::Seal(CLIENT_SECRET.into());
    use StepKind::{Install, LogIn, MakeKey, Open, Prove, Refresh, Register, Start, WriteConfig};
    let order = [
        &LogIn,
        &seal,
        &WriteConfig,
        &Open,
        &MakeKey,
        &Start,
        &Install,
        &Prove,
        &Refresh,
        &Register,
    ];
    assert_eq!(kinds, order);
    assert!(steps.iter().all(|step| step.done.is_none()));
}

#[test]
fn steps_name_a_plain_command_and_what_undoes_them() {
    let (paths, found) = (paths(), Found::default());
    let steps = plan(&target(&paths, &found));
    let config = of(&steps, &StepKind::WriteConfig);
    let path = paths.config.display();
    assert_eq!(config.command, format!("install -m 0640 -o root -g psi config.toml {path}"));
    assert_eq!(config.undo, Some(format!("cp /usr/share/psi/psi.toml {path}")));
    assert_eq!(of(&steps, &StepKind::MakeKey).command, "psictl cache init --backend tpm");
    let open = of(&steps, &StepKind::Open).command;
    assert!(open.starts_with("runuser -u psi -- psid --config"), "{open}");
    assert!(steps.iter().all(|step| !step.command.is_empty()));
}

#[test]
fn done_steps_are_skipped_once_psid_serves() {
    let (paths, found) = (paths(), serving());
    let kept = Target {
        config: ConfigState::Kept,
        credentials: vec![Credential { name: CLIENT_SECRET.into(), is_sealed: true }],
        ..target(&paths, &found)
    };
    let steps = plan(&kept);
    let left: Vec<&StepKind> =
        steps.iter().filter(|step| step.done.is_none()).map(|step| &step.kind).collect();
    assert_eq!(left, [&StepKind::Prove, &StepKind::Register]);
    // Another config makes psid log in and start again.
    let changed = Target { config: ConfigState::Missing, ..kept };
    let steps = plan(&changed);
    for kind in [StepKind::LogIn, StepKind::Open, StepKind::Start, StepKind::Refresh] {
        assert!(of(&steps, &kind).done.is_none(), "{kind:?}");
    }
    assert!(of(&steps, &StepKind::MakeKey).done.is_some());
}

#[test]
fn a_token_keeps_its_key_in_the_cache_file() {
    let (paths, found) = (paths(), Found { has_key: true, ..Found::default() });
    let target = Target { backend: Some(Backend::Hsm), user: None, ..target(&paths, &found) };
    let step = of(&plan(&target), &StepKind::MakeKey);
    assert_eq!((step.done, step.command.as_str()), (None, "psictl cache init --backend hsm"));
    assert!(!step.undo.unwrap().contains("cache.key"));
    let without = Target { backend: None, login: None, workloads: Vec::new(), ..target };
    let kinds: Vec<StepKind> = plan(&without).into_iter().map(|step| step.kind).collect();
    assert!(!kinds.contains(&StepKind::MakeKey) && !kinds.contains(&StepKind::LogIn));
}
