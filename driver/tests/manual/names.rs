//! The part of the completions that clap does not generate: names of workloads and of secrets, which `psictl __complete`
//! prints.

use clap_complete::Shell;

/// clap's completions of a program, with those names.
pub(crate) fn with_names(shell: Shell, program: &str, generated: String) -> String {
    let added = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        _ => unreachable!("no completions are generated for {shell}"),
    };
    let added = added.replace("LINE", &program.replace('-', "__")).replace("PROGRAM", program);
    match shell {
        // Zsh calls the function by the name of the file.
        Shell::Zsh => {
            let (head, body) = split_at_line(&generated, &format!("_{program}() {{"));
            let (body, call) = split_at_line(body, "if [ \"$funcstack[1]\"");
            let body = body.replacen(&format!("_{program}()"), &format!("_{program}_line()"), 1);
            format!("{head}{body}{added}\n{call}")
        }
        // An option's own values have precedence over the others.
        Shell::Fish => {
            let mut text = String::new();
            for line in generated.lines() {
                let has_names = ["exec", "render"].iter().any(|command| {
                    line.contains(&format!("_using_subcommand {command}\" -s w -l workload "))
                });
                let names = if has_names { " -f -a \"(__psictl_names)\"" } else { "" };
                text += &format!("{line}{names}\n");
            }
            text + &added
        }
        _ => generated + &added,
    }
}

fn split_at_line<'a>(text: &'a str, line: &str) -> (&'a str, &'a str) {
    text.split_at(text.find(&format!("\n{line}")).unwrap() + 1)
}

const BASH: &str = r#"
# Names of workloads and secrets; if there is none to offer, the rest of the command line.
_PROGRAM_names() {
    local names
    mapfile -t names < <(psictl __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#names[@]} -gt 0 ]]; then
        COMPREPLY=("${names[@]}")
    else
        _LINE "$@"
    fi
}
complete -F _PROGRAM_names -o bashdefault -o default PROGRAM
"#;

const ZSH: &str = r#"
# Names of workloads and secrets; if there is none to offer, the rest of the command line.
_PROGRAM() {
    local -a names
    names=(${(f)"$(psictl __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#names )); then
        compadd -a names
    else
        _PROGRAM_line "$@"
    fi
}
"#;

const FISH: &str = r#"
# Names of workloads and secrets.
function __psictl_names
    set -l words (commandline -opc)
    set -l begun (commandline -ct)
    set -e words[1]
    psictl __complete $words "$begun" 2>/dev/null
end
complete -c PROGRAM -a "(__psictl_names)"
"#;
