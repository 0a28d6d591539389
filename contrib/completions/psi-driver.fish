# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_psi_driver_global_optspecs
    string join \n h/help V/version
end

function __fish_psi_driver_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_psi_driver_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_psi_driver_using_subcommand
    set -l cmd (__fish_psi_driver_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c psi-driver -n "__fish_psi_driver_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psi-driver -n "__fish_psi_driver_needs_command" -s V -l version -d 'Print version'
complete -c psi-driver -n "__fish_psi_driver_needs_command" -f -a "lookup" -d 'Write the value of $SECRET_ID to stdout, byte for byte (podman calls this)'
complete -c psi-driver -n "__fish_psi_driver_needs_command" -f -a "store" -d 'Store stdin under $SECRET_ID (podman calls this)'
complete -c psi-driver -n "__fish_psi_driver_needs_command" -f -a "delete" -d 'Delete the registration of $SECRET_ID (podman calls this), or of the given id'
complete -c psi-driver -n "__fish_psi_driver_needs_command" -f -a "list" -d 'List the registered ids, one on each line, sorted'
complete -c psi-driver -n "__fish_psi_driver_needs_command" -f -a "get" -d 'Write a secret\'s value to stdout, by podman name, WORKLOAD--KEY, id or reference'
complete -c psi-driver -n "__fish_psi_driver_needs_command" -f -a "health" -d 'Exit with 0 if the daemon answers SERVING'
complete -c psi-driver -n "__fish_psi_driver_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand lookup" -s h -l help -d 'Print help'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand store" -l literal -d 'Store stdin as a literal, even if it looks like a reference; it is encrypted before it is written'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand store" -l reference -d 'Store stdin as a reference; reject other text'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand store" -s h -l help -d 'Print help'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand delete" -l force -d 'Delete even while psid cannot store anything; `podman secret rm` succeeds afterwards'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand delete" -s h -l help -d 'Print help'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand list" -s h -l help -d 'Print help'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand get" -s h -l help -d 'Print help'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand health" -s h -l help -d 'Print help'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health help" -f -a "lookup" -d 'Write the value of $SECRET_ID to stdout, byte for byte (podman calls this)'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health help" -f -a "store" -d 'Store stdin under $SECRET_ID (podman calls this)'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health help" -f -a "delete" -d 'Delete the registration of $SECRET_ID (podman calls this), or of the given id'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health help" -f -a "list" -d 'List the registered ids, one on each line, sorted'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health help" -f -a "get" -d 'Write a secret\'s value to stdout, by podman name, WORKLOAD--KEY, id or reference'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health help" -f -a "health" -d 'Exit with 0 if the daemon answers SERVING'
complete -c psi-driver -n "__fish_psi_driver_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

# Names of workloads and secrets.
function __psictl_names
    set -l words (commandline -opc)
    set -l begun (commandline -ct)
    set -e words[1]
    psictl __complete $words "$begun" 2>/dev/null
end
complete -c psi-driver -a "(__psictl_names)"
