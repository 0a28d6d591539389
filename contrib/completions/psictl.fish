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
complete -c psictl -n "__fish_psictl_needs_command" -f -a "delete" -d 'Delete the registration of $SECRET_ID (podman calls this), or of the given id'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "list" -d 'List the registered ids, one on each line, sorted'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "get" -d 'Write a secret\'s value to stdout, by podman name, WORKLOAD--KEY, id or reference'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "health" -d 'Exit with 0 if the daemon answers SERVING'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "init" -d 'Set psi up on this host: from an installed package to secrets that podman\'s containers can have'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "seal" -d 'Seal a credential of psid\'s, such as a client secret or a PIN, and write it beside the config'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "status" -d 'Print the state, as `cache status` does: exit status 0 if all is well, 1 if psid is degraded, 69 if it is down'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "secrets" -d 'List every registered secret: its kind, workload, owner, age and last use; never a value'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "restore" -d 'Restore registrations that were deleted within the last ten minutes; without an id, list them'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "add" -d 'Create one podman secret: a reference to a key of a provider, or a literal'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "install" -d 'Write the podman drop-in that makes psi the default secret driver'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "login" -d 'Log in with each configured identity, list each source, and print what is refused'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "setup" -d 'Create every workload\'s secrets in podman, and write the quadlet drop-ins'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "doctor" -d 'Find problems that would keep a container from starting, and secrets stored in plaintext'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "gc" -d 'Remove registrations that no podman store has any more'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "dependents" -d 'Print the podman secrets that psi serves and the containers that use them: without psi they fail'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "migrate" -d 'Move secrets from podman\'s file driver or the Python PSI to psi, or back to the file driver'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "import" -d 'Import secrets into Infisical from env-files, podman secrets or quadlet units'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "apply-changes" -d 'Restart the units that run with an older value of a secret, one at a time'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "exec" -d 'Run a command with a workload\'s secrets in its environment'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "env" -d 'Print a workload\'s variables for an env-file, a shell or a program that reads JSON'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "render" -d 'Write a workload\'s secrets as files into a directory in RAM'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "cache" -d 'The encrypted cache'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "hsm" -d 'The PKCS#11 token of [providers.pkcs11]'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "drill" -d 'Simulate an outage of every provider, and report the secrets that would fail'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "metrics" -d 'Print psid\'s metrics in Prometheus\' text format, for node_exporter\'s textfile collector'
complete -c psictl -n "__fish_psictl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand lookup" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand store" -l literal -d 'Store stdin as a literal, even if it looks like a reference; it is encrypted before it is written'
complete -c psictl -n "__fish_psictl_using_subcommand store" -l reference -d 'Store stdin as a reference; reject other text'
complete -c psictl -n "__fish_psictl_using_subcommand store" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand delete" -l force -d 'Delete even while psid cannot store anything; `podman secret rm` succeeds afterwards'
complete -c psictl -n "__fish_psictl_using_subcommand delete" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand list" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand get" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand health" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand init" -l api-url -d 'The URL of Infisical' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l ca-cert -d 'A PEM file of the only CAs that are trusted' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l method -d 'How the machine identity logs in' -r -f -a "universal-auth\t''
aws-iam\t''
gcp\t''
azure\t''
kubernetes\t''
jwt\t''
oidc\t''
spiffe\t''
token\t''
tls-cert\t''"
complete -c psictl -n "__fish_psictl_using_subcommand init" -l client-id -d 'The client id, with universal-auth; with azure, the one of one of several managed identities' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l client-secret-file -d 'A file with the client secret (-: stdin), which is sealed and not read again' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l access-token-file -d 'A file with the access token (-: stdin), with token, which is sealed and not read again' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l identity-id -d 'The machine identity\'s id, with the methods but universal-auth and token' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l token-file -d 'The file of the JSON web token, with kubernetes, jwt, oidc and spiffe' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l certificate-file -d 'The PEM file of the client certificate, with tls-cert' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l private-key-file -d 'A PEM file with its private key (-: stdin), with tls-cert, which is sealed and not read again' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l private-key-label -d 'The label of its private key on the PKCS#11 token, which signs the login then' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l login-url -d 'The URL at which the login with the certificate is made, if it is not --api-url' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l backend -d 'Where the key of the cache is kept: tpm (sealed by systemd-creds) or hsm (a PKCS#11 token)' -r -f -a "tpm\t''
hsm\t''"
complete -c psictl -n "__fish_psictl_using_subcommand init" -l seal-with -d 'What systemd-creds seals the key and the client secret to (default: tpm2, for a user host)' -r -f -a "tpm2\t''
host\t''
host+tpm2\t''
auto\t''"
complete -c psictl -n "__fish_psictl_using_subcommand init" -l tpm2-pcrs -d 'The PCRs that the key of the cache is bound to, such as 7 or 7+11; empty for none (default: 7)' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l recovery-key-file -d 'Write the recovery key to this new file of mode 0600, instead of showing it and asking for it' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l pkcs11-module -d 'The PKCS#11 module of the token, with --backend hsm or --private-key-label' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l token-label -d 'The label of the token' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l key-label -d 'The label of the token\'s key' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l pin-file -d 'A file with the user PIN (-: stdin), which is sealed and not read again' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l project -d 'The project: the name for the config, its id at Infisical, and its environment' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l workload -d 'A workload: the quadlet unit\'s name without its type, and the project and directory of its secrets' -r
complete -c psictl -n "__fish_psictl_using_subcommand init" -l program -d 'The permanent path of psi-driver (default: the one of `psictl install`)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand init" -l allow-http -d 'Allow plain http to another host, which sends every secret in plaintext'
complete -c psictl -n "__fish_psictl_using_subcommand init" -l no-recovery-key -d 'Create no recovery key'
complete -c psictl -n "__fish_psictl_using_subcommand init" -l start -d 'Start the workloads\' units at the end, again those that run, so that their containers have the secrets'
complete -c psictl -n "__fish_psictl_using_subcommand init" -s y -l yes -d 'Ask for no confirmation; without a terminal it is required'
complete -c psictl -n "__fish_psictl_using_subcommand init" -l dry-run -d 'Print the steps and their commands, and change nothing'
complete -c psictl -n "__fish_psictl_using_subcommand init" -l json -d 'Print JSON at the end, and ask nothing'
complete -c psictl -n "__fish_psictl_using_subcommand init" -l retry -d 'Try a refused login or PIN once more'
complete -c psictl -n "__fish_psictl_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand seal" -l seal-with -d 'What systemd-creds seals it to (default: tpm2, for a user what systemd chooses)' -r -f -a "tpm2\t''
host\t''
host+tpm2\t''
auto\t''"
complete -c psictl -n "__fish_psictl_using_subcommand seal" -l tpm2-pcrs -d 'The PCRs that it is bound to, such as 7 or 7+11; empty for none (default: none, where systemd can)' -r
complete -c psictl -n "__fish_psictl_using_subcommand seal" -l user -d 'Seal for the psid of the user that runs it, which is the default unless root runs it'
complete -c psictl -n "__fish_psictl_using_subcommand seal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand status" -l verify -d 'Also read cache.enc and compare it with the daemon\'s values'
complete -c psictl -n "__fish_psictl_using_subcommand status" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand status" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand secrets" -s w -l workload -d 'Show only those of this workload' -r
complete -c psictl -n "__fish_psictl_using_subcommand secrets" -l kind -d 'Show only this kind' -r -f -a "reference\t'A value at a provider'
literal\t'A value that psid keeps'
unusable\t'A file that psid cannot use'"
complete -c psictl -n "__fish_psictl_using_subcommand secrets" -l owner -d 'Show only those that this user registered, by name or uid' -r
complete -c psictl -n "__fish_psictl_using_subcommand secrets" -l sort -d 'The order: name, workload, owner; age with the oldest first; changed and used with the latest first' -r -f -a "name\t'By podman name'
workload\t'By workload'
owner\t'By owner'
age\t'The oldest value first'
changed\t'The latest change first'
used\t'The latest use first'"
complete -c psictl -n "__fish_psictl_using_subcommand secrets" -l unused -d 'Show only those that nobody has looked up since psid started'
complete -c psictl -n "__fish_psictl_using_subcommand secrets" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand secrets" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand restore" -l all -d 'Restore all of them'
complete -c psictl -n "__fish_psictl_using_subcommand restore" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand add" -l project -d 'The project\'s name in the config' -r
complete -c psictl -n "__fish_psictl_using_subcommand add" -l path -d 'The directory in the project' -r
complete -c psictl -n "__fish_psictl_using_subcommand add" -l key -d 'The key in the directory' -r
complete -c psictl -n "__fish_psictl_using_subcommand add" -l program -d 'The permanent path of psi-driver (default: the one of `psictl install`)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand add" -l literal -d 'Read the value from stdin and store it as it is'
complete -c psictl -n "__fish_psictl_using_subcommand add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand install" -l program -d 'The permanent path of psi-driver: podman copies it into every secret' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand install" -l stdout -d 'Print the drop-in instead of writing it'
complete -c psictl -n "__fish_psictl_using_subcommand install" -l force -d 'Write the drop-in although psid could not store a secret now'
complete -c psictl -n "__fish_psictl_using_subcommand install" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand login" -l retry -d 'Retry a refused login once now; too many refused logins lock the identity for every host'
complete -c psictl -n "__fish_psictl_using_subcommand login" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l provider -d 'Only the workloads of this provider of the config, such as infisical' -r
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l program -d 'The permanent path of psi-driver (default: the one of `psictl install`)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l quadlets -d 'The directory of the quadlet units' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l dry-run -d 'Print the changes and the drift, and change nothing; exit with 0 if there is no drift, else 1'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l prune -d 'Remove podman secrets and drop-in lines that no workload lists any more'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l accept-removals -d 'With --prune: remove even if most of a directory\'s secrets, or all workloads, are gone'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand setup" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -l program -d 'The permanent path of psi-driver (default: the one of `psictl install`)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -l quadlets -d 'The directory of the quadlet units (default: those that quadlet reads)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -l units -d 'The directory of other units (default: systemd\'s for local units)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l store -d 'Another podman\'s graph root to read; every user\'s default store and those of psid\'s registrations are always read' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l dry-run -d 'Print what would be removed'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l accept-removals -d 'Remove even if a store lost more than half of its secrets, or more than 50'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l remove-plaintext -d 'Permanently remove values of podman\'s file driver that no secret refers to and psid does not serve'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -l force -d 'Remove whatever the stores that were read do not have, proven to be unused or not, as after `podman system reset`'
complete -c psictl -n "__fish_psictl_using_subcommand gc" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand dependents" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand dependents" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l from -d 'The present store: podman\'s file driver, or the Python PSI' -r -f -a "psi\t''
file\t''"
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l to -d 'The store that gets psi\'s secrets back: podman\'s file driver, which keeps them in plaintext' -r -f -a "file\t''"
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l plaintext -d 'With --from file: check this directory for plaintext values too; needed for a directory of podman\'s `path=` option once its secrets are moved' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l state -d 'With --from psi: its state directory (default: psid\'s own)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l key -d 'With --cache: the key of its tpm backend, 32 bytes or sealed by systemd-creds as psi-cache-key (default: psid\'s own)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l program -d 'The permanent path of psi-driver (default: the one of `psictl install`)' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l yes -d 'With --to: do not ask for a confirmation'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l dry-run -d 'Print what would be done, and change nothing'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l remove-plaintext -d 'With --from file: remove the plaintext value of every secret for which psi serves the same value'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l cache -d 'With --from psi: import the mappings and cached values of --state, or of that cache file, while psid is stopped; then start psid and run the command again without --cache'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand migrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -f -a "env-file" -d 'Import the variables of env-files, with the values that the program of a dialect gives them'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -f -a "podman-secret" -d 'Import podman secrets of any driver but pass'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -f -a "quadlet" -d 'Import the variables of quadlet units: Environment=, EnvironmentFile= and Secret= of [Container]'
complete -c psictl -n "__fish_psictl_using_subcommand import; and not __fish_seen_subcommand_from env-file podman-secret quadlet help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l format -d 'The dialect' -r -f -a "compose\t'Docker Compose\'s: quotes, comments, $NAME of earlier lines'
podman\t'podman\'s and docker\'s --env-file: the rest of the line is the value, quotes included'
dotenv\t'.env files, as the npm package dotenv, node --env-file and python-dotenv agree'"
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l project -d 'The project\'s name in the config' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l environment -d 'The environment\'s slug (default: the project\'s in the config)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l path -d 'The directory (Infisical\'s folder)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l conflict -d 'What to do if a key exists with another value; fail writes nothing at all' -r -f -a "fail\t''
skip\t''
overwrite\t''"
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l make-folder -d 'Create the directory and its parents if they are missing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l dry-run -d 'Print what would be done, and write nothing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from env-file" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l project -d 'The project\'s name in the config' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l environment -d 'The environment\'s slug (default: the project\'s in the config)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l path -d 'The directory (Infisical\'s folder)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l conflict -d 'What to do if a key exists with another value; fail writes nothing at all' -r -f -a "fail\t''
skip\t''
overwrite\t''"
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l all -d 'Import every podman secret under its name, but the references that psi serves, whose values are at their provider'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l make-folder -d 'Create the directory and its parents if they are missing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l dry-run -d 'Print what would be done, and write nothing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from podman-secret" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l project -d 'The project\'s name in the config' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l environment -d 'The environment\'s slug (default: the project\'s in the config)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l path -d 'The directory (Infisical\'s folder)' -r
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l conflict -d 'What to do if a key exists with another value; fail writes nothing at all' -r -f -a "fail\t''
skip\t''
overwrite\t''"
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l make-folder -d 'Create the directory and its parents if they are missing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l dry-run -d 'Print what would be done, and write nothing'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from quadlet" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "env-file" -d 'Import the variables of env-files, with the values that the program of a dialect gives them'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "podman-secret" -d 'Import podman secrets of any driver but pass'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "quadlet" -d 'Import the variables of quadlet units: Environment=, EnvironmentFile= and Secret= of [Container]'
complete -c psictl -n "__fish_psictl_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand apply-changes" -l marked -d 'Only workloads that psid marked since the last run, after a random delay of at most on_change_jitter each'
complete -c psictl -n "__fish_psictl_using_subcommand apply-changes" -l dry-run -d 'Print what would be restarted, and change nothing; exit with 0 if there is nothing, else 1'
complete -c psictl -n "__fish_psictl_using_subcommand apply-changes" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand apply-changes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand exec" -s w -l workload -d 'A workload of the config; of several with the same key, the later one wins' -r -f -a "(__psictl_names)"
complete -c psictl -n "__fish_psictl_using_subcommand exec" -l allow -d 'Set this variable even though it chooses what programs load or run, as PATH and LD_PRELOAD do' -r
complete -c psictl -n "__fish_psictl_using_subcommand exec" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand env" -s w -l workload -d 'A workload of the config; of several with the same key, the later one wins' -r
complete -c psictl -n "__fish_psictl_using_subcommand env" -l format -d 'The form of the output' -r -f -a "env\t'NAME=VALUE lines without quotes, for podman\'s and docker\'s --env-file'
export\t'export commands of a POSIX shell'
json\t'A JSON object'"
complete -c psictl -n "__fish_psictl_using_subcommand env" -l allow -d 'Print this variable even though it chooses what programs load or run, as PATH and LD_PRELOAD do' -r
complete -c psictl -n "__fish_psictl_using_subcommand env" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand render" -s w -l workload -d 'A workload of the config; of several with the same key, the later one wins' -r -f -a "(__psictl_names)"
complete -c psictl -n "__fish_psictl_using_subcommand render" -l template -d 'Write this text file with {{ secret "KEY" }} replaced, under its name without .tmpl, instead of a file for each key' -r -F
complete -c psictl -n "__fish_psictl_using_subcommand render" -l escape -d 'How the values in a template are escaped' -r -f -a "none\t'The bytes as they are'
json\t'For the inside of a JSON string, whose quotes are the template\'s'
shell\t'A word of a POSIX shell, with its quotes'"
complete -c psictl -n "__fish_psictl_using_subcommand render" -l mode -d 'The mode of the files' -r
complete -c psictl -n "__fish_psictl_using_subcommand render" -l owner -d 'The owner and group of the files and of the directory, as numbers' -r
complete -c psictl -n "__fish_psictl_using_subcommand render" -l force -d 'Write even to a disk, where removed values may remain'
complete -c psictl -n "__fish_psictl_using_subcommand render" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "init" -d 'Create a key, seal it, check that it opens, and write an empty cache'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "status" -d 'Print the state of the cache and of each provider, and whether a reboot in an outage would lose secrets'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "refresh" -d 'Pull every configured source now'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "invalidate" -d 'Remove one entry, so that the next lookup fetches it'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "rekey" -d 'Create a new data key and encrypt everything with it; it may be interrupted'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "recover" -d 'Recover the data key with the recovery key on stdin, for example after a change of board or firmware'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "recovery-key" -d 'Create a new recovery key, which replaces any other one, and print it'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and not __fish_seen_subcommand_from init status refresh invalidate rekey recover recovery-key help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l backend -d 'The key backend: tpm (sealed by systemd-creds) or hsm (wrapped by a PKCS#11 token) (default: backend of the config)' -r -f -a "tpm\t''
hsm\t''"
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l seal-with -d 'What systemd-creds seals the key to; a different seal_with of the config is changed (default: as the config requires)' -r -f -a "tpm2\t''
host\t''
host+tpm2\t''
auto\t''"
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l tpm2-pcrs -d 'The PCRs that the key is bound to, such as 7 or 7+11; empty for none' -r
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l force -d 'Replace a readable cache or a key in use; values that only they have are lost'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l no-recovery-key -d 'Create no recovery key'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -l retry -d 'Try the token\'s PIN once even if it was refused'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from status" -l verify -d 'Also read cache.enc and compare it with the daemon\'s values'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from refresh" -l accept-removals -d 'Accept removals and emptied values without waiting for confirmation'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from refresh" -l retry -d 'Retry a refused login once now; too many refused logins lock the identity for every host'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from refresh" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from refresh" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from invalidate" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from rekey" -l seal-with -d 'What systemd-creds seals the key to' -r -f -a "tpm2\t''
host\t''
host+tpm2\t''
auto\t''"
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from rekey" -l tpm2-pcrs -d 'The PCRs that the key is bound to, such as 7 or 7+11; empty for none' -r
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from rekey" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from recover" -l seal-with -d 'What systemd-creds seals the key to' -r -f -a "tpm2\t''
host\t''
host+tpm2\t''
auto\t''"
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from recover" -l tpm2-pcrs -d 'The PCRs that the key is bound to, such as 7 or 7+11; empty for none' -r
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from recover" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from recovery-key" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "init" -d 'Create a key, seal it, check that it opens, and write an empty cache'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "status" -d 'Print the state of the cache and of each provider, and whether a reboot in an outage would lose secrets'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "refresh" -d 'Pull every configured source now'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "invalidate" -d 'Remove one entry, so that the next lookup fetches it'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "rekey" -d 'Create a new data key and encrypt everything with it; it may be interrupted'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "recover" -d 'Recover the data key with the recovery key on stdin, for example after a change of board or firmware'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "recovery-key" -d 'Create a new recovery key, which replaces any other one, and print it'
complete -c psictl -n "__fish_psictl_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -f -a "preflight" -d 'Check step by step what psid needs of the token; psid need not run'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -f -a "status" -d 'Print the state of the token and its key'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -f -a "store" -d 'Encrypt stdin to the token\'s key, and print the podman command that creates the secret'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and not __fish_seen_subcommand_from preflight status store help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from preflight" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from preflight" -l retry -d 'Try the PIN once even if it was refused'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from preflight" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from store" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from help" -f -a "preflight" -d 'Check step by step what psid needs of the token; psid need not run'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from help" -f -a "status" -d 'Print the state of the token and its key'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from help" -f -a "store" -d 'Encrypt stdin to the token\'s key, and print the podman command that creates the secret'
complete -c psictl -n "__fish_psictl_using_subcommand hsm; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand drill" -l for -d 'Duration, from 1s to 1h' -r
complete -c psictl -n "__fish_psictl_using_subcommand drill" -l json -d 'Print JSON at the end'
complete -c psictl -n "__fish_psictl_using_subcommand drill" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c psictl -n "__fish_psictl_using_subcommand metrics" -s h -l help -d 'Print help'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "lookup" -d 'Write the value of $SECRET_ID to stdout, byte for byte (podman calls this)'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "store" -d 'Store stdin under $SECRET_ID (podman calls this)'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "delete" -d 'Delete the registration of $SECRET_ID (podman calls this), or of the given id'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "list" -d 'List the registered ids, one on each line, sorted'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "get" -d 'Write a secret\'s value to stdout, by podman name, WORKLOAD--KEY, id or reference'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "health" -d 'Exit with 0 if the daemon answers SERVING'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "init" -d 'Set psi up on this host: from an installed package to secrets that podman\'s containers can have'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "seal" -d 'Seal a credential of psid\'s, such as a client secret or a PIN, and write it beside the config'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "status" -d 'Print the state, as `cache status` does: exit status 0 if all is well, 1 if psid is degraded, 69 if it is down'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "secrets" -d 'List every registered secret: its kind, workload, owner, age and last use; never a value'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "restore" -d 'Restore registrations that were deleted within the last ten minutes; without an id, list them'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "add" -d 'Create one podman secret: a reference to a key of a provider, or a literal'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "install" -d 'Write the podman drop-in that makes psi the default secret driver'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "login" -d 'Log in with each configured identity, list each source, and print what is refused'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "setup" -d 'Create every workload\'s secrets in podman, and write the quadlet drop-ins'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "doctor" -d 'Find problems that would keep a container from starting, and secrets stored in plaintext'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "gc" -d 'Remove registrations that no podman store has any more'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "dependents" -d 'Print the podman secrets that psi serves and the containers that use them: without psi they fail'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "migrate" -d 'Move secrets from podman\'s file driver or the Python PSI to psi, or back to the file driver'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "import" -d 'Import secrets into Infisical from env-files, podman secrets or quadlet units'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "apply-changes" -d 'Restart the units that run with an older value of a secret, one at a time'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "exec" -d 'Run a command with a workload\'s secrets in its environment'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "env" -d 'Print a workload\'s variables for an env-file, a shell or a program that reads JSON'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "render" -d 'Write a workload\'s secrets as files into a directory in RAM'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "cache" -d 'The encrypted cache'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "hsm" -d 'The PKCS#11 token of [providers.pkcs11]'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "drill" -d 'Simulate an outage of every provider, and report the secrets that would fail'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "metrics" -d 'Print psid\'s metrics in Prometheus\' text format, for node_exporter\'s textfile collector'
complete -c psictl -n "__fish_psictl_using_subcommand help; and not __fish_seen_subcommand_from lookup store delete list get health init seal status secrets restore add install login setup doctor gc dependents migrate import apply-changes exec env render cache hsm drill metrics help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "env-file" -d 'Import the variables of env-files, with the values that the program of a dialect gives them'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "podman-secret" -d 'Import podman secrets of any driver but pass'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "quadlet" -d 'Import the variables of quadlet units: Environment=, EnvironmentFile= and Secret= of [Container]'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "init" -d 'Create a key, seal it, check that it opens, and write an empty cache'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "status" -d 'Print the state of the cache and of each provider, and whether a reboot in an outage would lose secrets'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "refresh" -d 'Pull every configured source now'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "invalidate" -d 'Remove one entry, so that the next lookup fetches it'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "rekey" -d 'Create a new data key and encrypt everything with it; it may be interrupted'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "recover" -d 'Recover the data key with the recovery key on stdin, for example after a change of board or firmware'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "recovery-key" -d 'Create a new recovery key, which replaces any other one, and print it'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from hsm" -f -a "preflight" -d 'Check step by step what psid needs of the token; psid need not run'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from hsm" -f -a "status" -d 'Print the state of the token and its key'
complete -c psictl -n "__fish_psictl_using_subcommand help; and __fish_seen_subcommand_from hsm" -f -a "store" -d 'Encrypt stdin to the token\'s key, and print the podman command that creates the secret'

# Names of workloads and secrets.
function __psictl_names
    set -l words (commandline -opc)
    set -l begun (commandline -ct)
    set -e words[1]
    psictl __complete $words "$begun" 2>/dev/null
end
complete -c psictl -a "(__psictl_names)"
