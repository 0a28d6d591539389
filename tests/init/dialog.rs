//! The questions, at a terminal.

use psi_harness::{CLIENT_SECRET, PROJECT, TerminalSession};

use super::staged_host::StagedHost;

/// Answers the questions up to the client secret.
fn answer_until_secret(host: &StagedHost, terminal: &mut TerminalSession) {
    terminal.expect("This sets psi up for the system's podman");
    terminal.answer("Infisical's URL [https://app.infisical.com]: ", host.infisical.url());
    terminal.answer("Login method (universal-auth, ", "");
    terminal.answer("Client ID of the machine identity: ", "client");
    terminal.answer("Project ID ", "my-project");
    terminal.expect("'my-project' is no project id");
    terminal.answer("Project ID ", PROJECT);
    terminal.answer("Environment's slug [prod]: ", "");
    terminal.answer("Name of the project in psi's config [myproject]: ", "");
    terminal.answer("Name of a container's unit", "myapp");
    terminal.answer("Directory of its secrets at Infisical [/myapp]: ", "");
}

/// The recovery key on the screen.
fn recovery_key(screen: &str) -> String {
    let is_key = |word: &&str| word.len() == 71 && word.matches('-').count() == 7;
    screen
        .split_whitespace()
        .find(is_key)
        .unwrap_or_else(|| panic!("no recovery key:\n{screen}"))
        .to_owned()
}

#[test]
fn dialog_asks_for_everything_and_shows_no_secret() {
    let host = StagedHost::new();
    let mut terminal = TerminalSession::start(host.command(&["psictl", "init"]));
    answer_until_secret(&host, &mut terminal);
    terminal.answer("Client secret: ", CLIENT_SECRET);
    terminal.expect("ok: ");
    terminal.expect("The next steps:");
    terminal.answer("Continue? [Y/n]: ", "");
    terminal.expect("Type it back");
    let key = recovery_key(&terminal.screen());
    terminal.answer("Recovery key: ", &key.replace('c', "b"));
    terminal.expect("of the letters is another one");
    terminal.answer("Recovery key: ", &key.to_uppercase().replace('-', " "));
    terminal.expect("the recovery key was typed back");
    terminal.expect("next:");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}\n{}", host.logs());
    assert!(!screen.contains(CLIENT_SECRET), "{screen}");
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
}

#[test]
fn refused_login_is_asked_for_again() {
    let host = StagedHost::new();
    let mut terminal =
        TerminalSession::start(host.command(&["psictl", "init", "--no-recovery-key"]));
    answer_until_secret(&host, &mut terminal);
    terminal.answer("Client secret: ", "not-the-secret");
    terminal.answer("Correct the answers? [Y/n]: ", "y");
    terminal.answer("Infisical's URL [", "");
    terminal.answer("Login method (universal-auth, ", "");
    terminal.answer("Client ID of the machine identity [client]: ", "");
    for question in [
        "Project ID ",
        "Environment's slug",
        "Name of the project",
        "Name of a container's unit",
        "Directory of",
    ] {
        terminal.answer(question, "");
    }
    terminal.answer("Client secret: ", CLIENT_SECRET);
    terminal.answer("Continue? [Y/n]: ", "");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}\n{}", host.logs());
    assert!(!screen.contains("not-the-secret"), "{screen}");
}

#[test]
fn killed_at_the_recovery_key_the_next_run_goes_on() {
    let host = StagedHost::new();
    let flags: Vec<String> = host
        .flags()
        .into_iter()
        .filter(|flag| !matches!(flag.as_str(), "--no-recovery-key" | "--yes"))
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut terminal = TerminalSession::start(host.command(&flags));
    terminal.answer("Continue? [Y/n]: ", "y");
    terminal.expect("Type it back");
    terminal.kill();
    let (report, _) = host.init_ends(0, &host.flags(), &[]);
    assert!(
        report.contains(
            "if you do not have its recovery key, `psictl cache recovery-key` creates another"
        ),
        "{report}"
    );
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
}

#[test]
fn no_to_the_plan_changes_nothing() {
    let host = StagedHost::new();
    let before = host.files();
    let flags: Vec<String> = host.flags().into_iter().filter(|flag| flag != "--yes").collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut terminal = TerminalSession::start(host.command(&flags));
    terminal.answer("Continue? [Y/n]: ", "n");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 2, "{screen}");
    assert!(screen.contains("nothing was changed"), "{screen}");
    assert_eq!(host.files(), before);
}

#[test]
fn seal_asks_without_an_echo() {
    let host = StagedHost::new();
    let mut terminal = TerminalSession::start(host.command(&["psictl", "seal", "hsm-pin"]));
    terminal.answer("value of hsm-pin: ", "a-hidden-pin");
    let (code, screen) = terminal.finish();
    assert_eq!((code, screen.contains("a-hidden-pin")), (0, false), "{screen}");
    assert_eq!(
        host.sh("systemd-creds decrypt --name=hsm-pin /etc/psi/hsm-pin.cred - 2>/dev/null"),
        "a-hidden-pin"
    );
}
