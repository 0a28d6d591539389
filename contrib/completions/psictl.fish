# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_psictl_global_optspecs
    string join \n h/help V/version
end

function __fish_psictl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_psictl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_psictl_using_subcommand
    set -l cmd (__fish_psictl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c psictl -n "__fish_psictl_needs_command" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_needs_command" -s V -l version -d 'Print version'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "lookup" -d 'Write the value of $SECRET_ID to stdout, byte for byte (podman calls this)'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "store" -d 'Store stdin under $SECRET_ID (podman calls this)'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "delete" -d 'Forget $SECRET_ID (podman calls this), or the secret of an id'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "list" -d 'List the registered ids, one a line, sorted'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "get" -d 'Write a secret\'s value to stdout, by podman name, WORKLOAD--KEY, id or reference'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "health" -d 'Exit 0 when the daemon answers SERVING'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "restore" -d 'Bring back what podman deleted within the last ten minutes; without an id, list it'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "add" -d 'Make a podman secret that psi keeps: sealed, whatever the text looks like'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "install" -d 'Write the podman drop-in that makes psi the secret driver'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "setup" -d 'Register every workload\'s secrets with podman, and write the quadlet drop-ins'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "doctor" -d 'Tell what would keep a container from starting now, and where secrets are in clear'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "gc" -d 'Remove what psid keeps and no podman asks for any more'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "migrate" -d 'Make psi the driver of secrets that podman\'s file driver or the Python PSI has now'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "import" -d 'Bring secrets into Infisical: out of env-files, podman secrets or quadlet units'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "exec" -d 'Run a command with a workload\'s secrets in its environment'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "render" -d 'Write a workload\'s secrets as files into a folder in RAM'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "cache" -d 'The encrypted cache'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "hsm" -d 'The PKCS#11 token of [providers.pkcs11]'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "drill" -d 'Treat every provider as out for a while, and tell which secrets an outage would cost'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "metrics" -d 'Print psid\'s metrics in Prometheus\' text format, for node_exporter\'s textfile collector'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand lookup" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand store" -l literal -d 'Take stdin as a literal whatever it looks like: sealed before it touches the disk'
complete -c psictl -n "__fish_psictl_using_subcommand store" -l reference -d 'Take stdin as a reference, and refuse it when it is none'
complete -c psictl -n "__fish_psictl_using_subcommand store" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand delete" -l force -d 'Also while psid can store nothing, which it refuses podman: `podman secret rm` passes after it'
complete -c psictl -n "__fish_psictl_using_subcommand delete" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand list" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand get" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand health" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand restore" -l all -d 'Bring back all of it'
complete -c psictl -n "__fish_psictl_using_subcommand restore" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand add" -l program -d 'Where psi-driver stays for good (default: where `psictl install` said)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand add" -l literal -d 'Take the text as it is'
complete -c psictl -n "__fish_psictl_using_subcommand add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand install" -l program -d 'Where psi-driver stays for good: podman copies the path into every secret' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand install" -l stdout -d 'Print the drop-in instead of writing it'
complete -c psictl -n "__fish_psictl_using_subcommand install" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l program -d 'Where psi-driver stays for good (default: where `psictl install` said)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l quadlets -d 'The folder of the quadlet units' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l dry-run -d 'Tell what would be done, and what differs; exit 0 when nothing does, else 1'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l prune -d 'Remove what no workload lists any more: podman secrets and lines of drop-ins'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l accept-removals -d 'With --prune: also when most of a folder\'s secrets, or all workloads, are gone at once'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -l program -d 'Where psi-driver stays for good (default: where `psictl install` said)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -l quadlets -d 'The folder of the quadlet units' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l store -d 'Another podman\'s graph root to look at; every user\'s own, and those that psid has a note of, are looked at anyway' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l dry-run -d 'Tell what would be removed'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l accept-removals -d 'Also when a store lost more than half of its secrets, or more than 50'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l remove-plaintext -d 'Remove from podman\'s file driver, for good, values that no secret refers to and that psid does not serve'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l force -d 'Remove what no podman that was looked at has, proven to be unused or not, as after `podman system reset`'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l from -d 'The store that has them now: podman\'s file driver, or the Python PSI' -r -f -a "psi\t''
file\t''"
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l plaintext -d 'With file: look for values in clear in this folder too; needed for one that podman\'s `path=` option named, once its secrets are psi\'s' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l state -d 'With psi: the directory of its state (default: psid\'s own)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l key -d 'With --cache: the key of its tpm backend, 32 bytes or sealed by systemd-creds as psi-cache-key (default: our own)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l program -d 'Where psi-driver stays for good (default: where `psictl install` said)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l dry-run -d 'Tell what would be done, and change nothing'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l remove-plaintext -d 'With file: remove the values in clear of every secret that psi serves the same by now'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l cache -d 'With psi: take over the mappings and cached values in --state, or in that cache file, while psid is stopped; then start psid and run this again without it'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -f -a "env-file" -d 'KEY=VALUE lines, read by podman\'s own rules: what podman gives a container is what is imported'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -f -a "podman-secret" -d 'Podman secrets, of whatever driver but pass'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -f -a "quadlet" -d 'What quadlet units give their containers: Environment=, EnvironmentFile= and Secret= of [Container]'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l project -d 'The project\'s name in the config' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l environment -d 'The environment\'s slug (default: the project\'s in the config)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l path -d 'The folder' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l conflict -d 'What to do when a key is there with another value: fail writes nothing at all' -r -f -a "fail\t''
skip\t''
overwrite\t''"
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l make-folder -d 'Make the folder, and those above it, where they are missing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l dry-run -d 'Tell what would be done, and write nothing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l project -d 'The project\'s name in the config' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l environment -d 'The environment\'s slug (default: the project\'s in the config)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l path -d 'The folder' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l conflict -d 'What to do when a key is there with another value: fail writes nothing at all' -r -f -a "fail\t''
skip\t''
overwrite\t''"
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l make-folder -d 'Make the folder, and those above it, where they are missing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l dry-run -d 'Tell what would be done, and write nothing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l project -d 'The project\'s name in the config' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l environment -d 'The environment\'s slug (default: the project\'s in the config)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l path -d 'The folder' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l conflict -d 'What to do when a key is there with another value: fail writes nothing at all' -r -f -a "fail\t''
skip\t''
overwrite\t''"
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l make-folder -d 'Make the folder, and those above it, where they are missing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l dry-run -d 'Tell what would be done, and write nothing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "env-file" -d 'KEY=VALUE lines, read by podman\'s own rules: what podman gives a container is what is imported'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "podman-secret" -d 'Podman secrets, of whatever driver but pass'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "quadlet" -d 'What quadlet units give their containers: Environment=, EnvironmentFile= and Secret= of [Container]'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand exec" -s w -l workload -d 'A workload of the config; of several with one key, the later one\'s counts' -r
complete -c psictl -n "__fish_psictl_using_subcommand exec" -l allow -d 'Set this variable although it chooses what programs load or run, as PATH and LD_PRELOAD do' -r
complete -c psictl -n "__fish_psictl_using_subcommand exec" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand render" -s w -l workload -d 'A workload of the config; of several with one key, the later one\'s counts' -r
complete -c psictl -n "__fish_psictl_using_subcommand render" -l mode -d 'The files\' mode' -r
complete -c psictl -n "__fish_psictl_using_subcommand render" -l owner -d 'The files\' owner and group, by number' -r
complete -c psictl -n "__fish_psictl_using_subcommand render" -l force -d 'Also on a disk, where what is removed may stay'
complete -c psictl -n "__fish_psictl_using_subcommand render" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "init" -d 'Make a key, seal it, prove that it opens, and write an empty cache'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "status" -d 'Tell the cache\'s state, each provider\'s, and whether a reboot now would survive an outage'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "refresh" -d 'Pull every configured source now'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "invalidate" -d 'Drop one entry, so that the next lookup fetches it'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "rekey" -d 'Make a new data key and seal everything under it; safe to interrupt'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "recover" -d 'Bring the key back with the recovery key, read from stdin, after a change of board or firmware'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "recovery-key" -d 'Make a new recovery key in the place of any other one, and show it'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l backend -d 'Where the key lives: tpm (sealed by systemd-creds) or hsm (wrapped by a PKCS#11 token); default: as backend in the config' -r -f -a "tpm\t''
hsm\t''"
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l seal-with -d 'What systemd-creds seals the key to; where the config demands another, its line seal_with is changed (default: as the config demands)' -r -f -a "tpm2\t''
host\t''
host+tpm2\t''
auto\t''"
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l tpm2-pcrs -d 'The PCRs that must be the same to unseal, as 7 or 7+11; empty for none' -r
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l force -d 'Replace a readable cache or a key in use: what only they hold is lost'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l no-recovery-key -d 'Make no recovery key'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l retry -d 'Try the token\'s PIN once, though it was refused'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from status" -l verify -d 'Also read cache.enc back and compare it with what the daemon holds'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from refresh" -l accept-removals -d 'Believe a provider at once that has most of a source no more, or values that turned empty'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from refresh" -l retry -d 'Try a refused login once more now: too many refused ones lock an identity for every host'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from refresh" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from refresh" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from invalidate" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from rekey" -l seal-with -d 'What systemd-creds seals the key to' -r -f -a "tpm2\t''
host\t''
host+tpm2\t''
auto\t''"
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from rekey" -l tpm2-pcrs -d 'The PCRs that must be the same to unseal, as 7 or 7+11; empty for none' -r
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from rekey" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from recover" -l seal-with -d 'What systemd-creds seals the key to' -r -f -a "tpm2\t''
host\t''
host+tpm2\t''
auto\t''"
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from recover" -l tpm2-pcrs -d 'The PCRs that must be the same to unseal, as 7 or 7+11; empty for none' -r
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from recover" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from recovery-key" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "init" -d 'Make a key, seal it, prove that it opens, and write an empty cache'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "status" -d 'Tell the cache\'s state, each provider\'s, and whether a reboot now would survive an outage'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "refresh" -d 'Pull every configured source now'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "invalidate" -d 'Drop one entry, so that the next lookup fetches it'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "rekey" -d 'Make a new data key and seal everything under it; safe to interrupt'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "recover" -d 'Bring the key back with the recovery key, read from stdin, after a change of board or firmware'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "recovery-key" -d 'Make a new recovery key in the place of any other one, and show it'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -f -a "preflight" -d 'Check all that psid needs of the token, step by step; psid need not run'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -f -a "status" -d 'Tell of the token and its key, as psid sees them'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -f -a "store" -d 'Seal stdin to the token\'s key, and print the command that gives it to podman'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from preflight" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from preflight" -l retry -d 'Try the PIN once, though it was refused'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from preflight" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from store" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from help" -f -a "preflight" -d 'Check all that psid needs of the token, step by step; psid need not run'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from help" -f -a "status" -d 'Tell of the token and its key, as psid sees them'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from help" -f -a "store" -d 'Seal stdin to the token\'s key, and print the command that gives it to podman'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand drill" -l for -d 'How long, from 1s to 1h' -r
complete -c psictl -n "__fish_psictl_using_subcommand drill" -l json -d 'Print JSON, once it is over'
complete -c psictl -n "__fish_psictl_using_subcommand drill" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand metrics" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "lookup" -d 'Write the value of $SECRET_ID to stdout, byte for byte (podman calls this)'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "store" -d 'Store stdin under $SECRET_ID (podman calls this)'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "delete" -d 'Forget $SECRET_ID (podman calls this), or the secret of an id'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "list" -d 'List the registered ids, one a line, sorted'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "get" -d 'Write a secret\'s value to stdout, by podman name, WORKLOAD--KEY, id or reference'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "health" -d 'Exit 0 when the daemon answers SERVING'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "restore" -d 'Bring back what podman deleted within the last ten minutes; without an id, list it'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "add" -d 'Make a podman secret that psi keeps: sealed, whatever the text looks like'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "install" -d 'Write the podman drop-in that makes psi the secret driver'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "setup" -d 'Register every workload\'s secrets with podman, and write the quadlet drop-ins'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "doctor" -d 'Tell what would keep a container from starting now, and where secrets are in clear'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "gc" -d 'Remove what psid keeps and no podman asks for any more'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "migrate" -d 'Make psi the driver of secrets that podman\'s file driver or the Python PSI has now'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "import" -d 'Bring secrets into Infisical: out of env-files, podman secrets or quadlet units'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "exec" -d 'Run a command with a workload\'s secrets in its environment'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "render" -d 'Write a workload\'s secrets as files into a folder in RAM'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "cache" -d 'The encrypted cache'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "hsm" -d 'The PKCS#11 token of [providers.pkcs11]'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "drill" -d 'Treat every provider as out for a while, and tell which secrets an outage would cost'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "metrics" -d 'Print psid\'s metrics in Prometheus\' text format, for node_exporter\'s textfile collector'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health restore add install setup doctor gc migrate import exec render cache hsm drill metrics help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "env-file" -d 'KEY=VALUE lines, read by podman\'s own rules: what podman gives a container is what is imported'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "podman-secret" -d 'Podman secrets, of whatever driver but pass'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "quadlet" -d 'What quadlet units give their containers: Environment=, EnvironmentFile= and Secret= of [Container]'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "init" -d 'Make a key, seal it, prove that it opens, and write an empty cache'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "status" -d 'Tell the cache\'s state, each provider\'s, and whether a reboot now would survive an outage'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "refresh" -d 'Pull every configured source now'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "invalidate" -d 'Drop one entry, so that the next lookup fetches it'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "rekey" -d 'Make a new data key and seal everything under it; safe to interrupt'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "recover" -d 'Bring the key back with the recovery key, read from stdin, after a change of board or firmware'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "recovery-key" -d 'Make a new recovery key in the place of any other one, and show it'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from hsm" -f -a "preflight" -d 'Check all that psid needs of the token, step by step; psid need not run'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from hsm" -f -a "status" -d 'Tell of the token and its key, as psid sees them'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from hsm" -f -a "store" -d 'Seal stdin to the token\'s key, and print the command that gives it to podman'
