//! Environment variables that choose what a program loads or runs.
//!
//! A key of a provider's directory becomes a variable of that name. With one of these names, a user with write
//! access to that directory runs code as the user of the process. So they are rejected for processes of the
//! host, but not for containers, which run only their own image.

/// Prefixes of which every name is rejected.
#[rustfmt::skip]
const PREFIXES: &[&str] = &[
    // Loaders: glibc's and musl's, macOS's, AIX's, IRIX's.
    "LD_", "DYLD_", "LDR_", "_RLD", "GLIBC_", "MALLOC_", "RESOLV_",
    // Shells; BASH_FUNC_name%% is a function that replaces a command.
    "BASH_", "__BASH_FUNC", "ZSH_",
    // Interpreters and runtimes.
    "PYTHON", "PERL5", "RUBY", "LUA_", "JULIA_", "GUILE_", "CORECLR_", "COMPlus_", "COR_", "DOTNET_", "MONO_", "ERL_",
    "NODE_V8_", "OPENJ9_", "GEM_", "BUNDLE_GEM", "BUNDLE_BIN", "BUNDLE_PATH", "npm_config_", "NPM_CONFIG_", "YARN_", "PIP_",
    "CARGO_TARGET_", "CARGO_BUILD_", "CARGO_ALIAS_", "CARGO_PROFILE_", "RUSTC", "RUSTUP_", "CGO_", "CLOUDSDK_PYTHON",
    // Tools whose config may come whole from the environment, commands among it.
    "GIT_CONFIG", "GIT_SSH", "GIT_TRACE", "SYSTEMD_", "LESSKEY", "OPENSSL_", "KRB5_CONFIG", "ANSIBLE_", "XDG_",
    "TF_CLI_", "BORG_PASSCOMMAND", "RESTIC_PASSWORD_COMMAND",
    // Plugins and modules of desktops, graphics and media.
    "GTK_", "GTK2_", "GTK3_", "GDK_PIXBUF_", "GIO_", "GST_PLUGIN", "GST_REGISTRY", "GST_PRESET", "QT_", "QML_", "QML2_",
    "VK_", "LIBGL_", "LIBVA_", "VDPAU_DRIVER", "OCL_ICD_", "MAGICK_", "ALSA_CONFIG_", "ALSA_PLUGIN_", "SDL_DYNAMIC_API",
    // Runtime options of sanitizers, which name programs and files.
    "ASAN_", "LSAN_", "MSAN_", "TSAN_", "UBSAN_",
];

/// Names with such a prefix that do not choose code.
const HARMLESS: &[&str] = &["DOTNET_ENVIRONMENT"];

/// Names that are rejected.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    // Search paths of programs and of a person's files.
    "PATH", "HOME", "SHELL", "CDPATH", "FPATH", "IFS", "TMPPREFIX", "TERMCAP", "TERMINFO", "TERMINFO_DIRS", "TERMPATH",
    // Shells.
    "ENV", "BASHOPTS", "SHELLOPTS", "POSIXLY_CORRECT", "PS0", "PS1", "PS2", "PS3", "PS4", "PROMPT", "PROMPT_COMMAND",
    "RPROMPT", "HISTFILE", "INPUTRC", "EXECIGNORE", "GLOBIGNORE", "FCEDIT", "ZDOTDIR", "NULLCMD", "READNULLCMD", "MODULE_PATH",
    // The C library and its resolver.
    "GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LANGUAGE", "LIBPATH", "LOCALDOMAIN", "LOCPATH", "LOCALE_ARCHIVE",
    "NIS_PATH", "NLSPATH", "PATH_LOCALE", "RES_OPTIONS", "SHLIB_PATH", "TEXTDOMAINDIR", "TZDIR", "DATEMSK", "PCPROFILE_OUTPUT",
    "SEGFAULT_OUTPUT_NAME", "GMON_OUT_PREFIX", "AUTHSTATE", "_RJEM_MALLOC_CONF", "JE_MALLOC_CONF", "HEAPPROFILE", "CPUPROFILE",
    // Perl, Ruby, PHP, Tcl, R, awk, Emacs, Erlang.
    "PERLLIB", "PERLIO", "PERLIO_DEBUG", "PERLDB_OPTS", "PERL_MM_OPT", "PERL_MB_OPT", "PERL_LOCAL_LIB_ROOT", "PERL_UNICODE",
    "DLN_LIBRARY_PATH", "GEMRC", "IRBRC", "RAKEOPT", "BUNDLER_SETUP", "BUNDLER_ORIG_PATH", "PHPRC", "PHP_INI_SCAN_DIR",
    "PEAR_CONF", "TCLLIBPATH", "TCL_LIBRARY", "TK_LIBRARY", "R_HOME", "R_PROFILE", "R_PROFILE_USER", "R_ENVIRON",
    "R_ENVIRON_USER", "R_LIBS", "R_LIBS_USER", "R_LIBS_SITE", "AWKPATH", "AWKLIBPATH", "EMACSLOADPATH", "EMACSPATH",
    "EMACSDATA", "ELIXIR_ERL_OPTIONS", "ERLC_OPTS", "BINDIR", "ROOTDIR", "EMU",
    // Node, Bun, Deno, Electron.
    "NODE_OPTIONS", "NODE_PATH", "NODE_EXTRA_CA_CERTS", "NODE_REPL_EXTERNAL_MODULE", "NODE_REPL_HISTORY", "NODE_ICU_DATA",
    "NODE_COMPILE_CACHE", "NODE_REDIRECT_WARNINGS", "NODE_TLS_REJECT_UNAUTHORIZED", "NODE_GYP_FORCE_PYTHON",
    "ELECTRON_RUN_AS_NODE", "BUN_OPTIONS", "BUN_INSTALL", "DENO_DIR", "DENO_INSTALL_ROOT",
    // Java.
    "CLASSPATH", "JAVA_HOME", "JAVA_OPTS", "JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS",
    "IBM_JAVA_OPTIONS", "JDK_HOME", "JRE_HOME", "MAVEN_OPTS", "MAVEN_ARGS", "M2_HOME", "GRADLE_OPTS", "GRADLE_USER_HOME",
    "ANT_OPTS", "ANT_ARGS", "ANT_HOME", "CATALINA_OPTS", "CATALINA_HOME", "CATALINA_BASE", "SBT_OPTS", "KOTLIN_HOME",
    "SCALA_HOME", "GROOVY_HOME",
    // Compilers and build tools.
    "CC", "CXX", "CPP", "LD", "AR", "AS", "FC", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "COMPILER_PATH", "LIBRARY_PATH",
    "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "GCC_EXEC_PREFIX", "MAKEFLAGS", "MAKEFILES",
    "MFLAGS", "GNUMAKEFLAGS", "MAKESHELL", "PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR",
    "ACLOCAL_PATH", "CONFIG_SITE", "CONFIG_SHELL", "RUSTDOC", "RUSTFLAGS", "RUSTDOCFLAGS", "CARGO_HOME", "GOROOT", "GOPATH",
    "GOBIN", "GOENV", "GOFLAGS", "GOTOOLDIR", "GOTOOLCHAIN", "GOAUTH", "GOCACHEPROG", "GOPROXY", "GOVCS", "GOSUMDB",
    "GONOSUMDB", "GOINSECURE", "MSBuildSDKsPath", "MSBUILD_EXE_PATH", "LLVM_PROFILE_FILE", "LLVM_SYMBOLIZER_PATH", "GCOV_PREFIX",
    // Commands that other programs run, and options that name one.
    "EDITOR", "VISUAL", "PAGER", "MANPAGER", "MANPATH", "MANOPT", "BAT_PAGER", "DELTA_PAGER", "BROWSER", "LESS", "LESSOPEN",
    "LESSCLOSE", "LESSEDIT", "LESSHISTFILE", "LESSSECURE", "MORE", "VIM", "VIMINIT", "GVIMINIT", "VIMRUNTIME", "EXINIT",
    "NEXINIT", "SUDO_EDITOR", "SUDO_ASKPASS", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "SSH_SK_PROVIDER", "SSH_SK_HELPER",
    "SSH_PKCS11_HELPER", "SSH_AUTH_SOCK", "RSYNC_RSH", "RSYNC_CONNECT_PROG", "CVS_RSH", "CVSEDITOR", "SVN_SSH", "SVN_EDITOR",
    "HG", "HGRCPATH", "HGEDITOR", "HGMERGE", "BZR_PLUGIN_PATH", "TAPE", "TAR_OPTIONS", "GZIP", "BZIP", "BZIP2", "XZ_OPT",
    "XZ_DEFAULTS", "ZSTD_CLEVEL", "UNZIP", "UNZIPOPT", "ZIPOPT", "ZIPINFO", "GREP_OPTIONS", "LS_OPTIONS", "ACKRC",
    "ACK_OPTIONS", "RIPGREP_CONFIG_PATH", "FZF_DEFAULT_COMMAND", "FZF_DEFAULT_OPTS", "FZF_DEFAULT_OPTS_FILE", "WGETRC",
    "SYSTEM_WGETRC", "CURL_HOME", "FTP_PROGRAM", "BC_ENV_ARGS", "GNUTARGET", "GDBHISTFILE", "APT_CONFIG", "DPKG_ROOT",
    "DPKG_ADMINDIR", "DEBCONF_FRONTEND", "DEBIAN_FRONTEND", "DEBCONF_DB_OVERRIDE", "RPM_CONFIGDIR", "LYNX_CFG", "NMAPDIR",
    "SCREENRC", "SYSSCREENRC", "TMUX", "GROFF_COMMAND_PREFIX", "GROFF_BIN_PATH", "GROFF_FONT_PATH", "GROFF_TMAC_PATH",
    "TEXINPUTS", "TEXMFCNF", "GS_OPTIONS", "GS_LIB", "MAGIC", "LADSPA_PATH", "LV2_PATH", "BORG_RSH", "BORG_REMOTE_PATH",
    "RCLONE_PASSWORD_COMMAND", "RCLONE_CONFIG", "AGE_PLUGIN_PATH", "PASSWORD_STORE_EXTENSIONS_DIR", "CREDENTIALS_DIRECTORY",
    // Git.
    "GIT_ALLOW_PROTOCOL", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_ASKPASS", "GIT_ATTR_SOURCE", "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR", "GIT_DIR", "GIT_EDITOR", "GIT_EXEC_PATH", "GIT_EXTERNAL_DIFF", "GIT_INDEX_FILE", "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY", "GIT_PAGER", "GIT_PROXY_COMMAND", "GIT_SEQUENCE_EDITOR", "GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY",
    "GIT_TEMPLATE_DIR", "GIT_WORK_TREE",
    // Cryptography and authentication: modules, and files of trust.
    "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "GNUPGHOME",
    "GPG_AGENT_INFO", "PKCS11_MODULE_PATH", "PKCS11_PROVIDER_MODULE", "SOFTHSM2_CONF", "OPENSC_CONF", "OPENSC_DRIVER",
    "P11_KIT_SERVER_ADDRESS", "TPM2TOOLS_TCTI", "TCTI", "TSS2_FAPICONF", "KRB5CCNAME", "KRB5_KTNAME", "KRB5_TRACE",
    "GSS_MECH_CONFIG", "SASL_PATH", "SASL_CONF_PATH", "LDAPCONF", "LDAPRC", "VAR_ACE", "USR_ACE", "DLC_ACE",
    // Config of clients that may name a command, a library or another server.
    "PGSERVICEFILE", "PGSYSCONFDIR", "PSQLRC", "PSQL_EDITOR", "PSQL_PAGER", "PSQL_HISTORY", "MYSQL_HOME", "LIBMYSQL_PLUGINS",
    "LIBMYSQL_PLUGIN_DIR", "MYSQL_TEST_LOGIN_FILE", "ODBCINI", "ODBCSYSINI", "ODBCINSTINI", "FREETDSCONF", "ORACLE_HOME",
    "TNS_ADMIN", "REDISCLI_RCFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG", "KUBECONFIG",
    "KUBERC", "KUBE_EDITOR", "HELM_PLUGINS", "HELM_CONFIG_HOME", "CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE",
    "CONTAINERS_STORAGE_CONF", "CONTAINERS_HELPER_BINARY_DIR", "CONTAINER_HOST", "DOCKER_CONFIG", "DOCKER_HOST",
    "BUILDAH_RUNTIME", "STORAGE_OPTS",
    // D-Bus takes addresses that run a program (unixexec:).
    "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "DBUS_STARTER_ADDRESS",
    // Desktops.
    "XENVIRONMENT", "XAPPLRESDIR", "XFILESEARCHPATH", "XUSERFILESEARCHPATH", "XLOCALEDIR", "XKB_CONFIG_ROOT",
    "GI_TYPELIB_PATH", "GSETTINGS_BACKEND", "GSETTINGS_SCHEMA_DIR", "PANGO_RC_FILE", "FONTCONFIG_FILE", "FONTCONFIG_PATH",
    "FONTCONFIG_SYSROOT", "GBM_BACKENDS_PATH", "EGL_DRIVERS_PATH", "ASOUNDRC", "FAKECHROOT",
];

/// Whether a variable of this name chooses what a program loads or runs.
pub fn chooses_code(name: &str) -> bool {
    // A shell takes the value for a function if the name ends so.
    let is_function = name.ends_with("%%") || name.ends_with("()");
    is_function
        || NAMES.contains(&name)
        || (PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !HARMLESS.contains(&name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn variables_that_choose_code_are_recognised() {
        #[rustfmt::skip]
        let names = [
            "PATH", "LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH",
            "BASH_ENV", "ENV", "BASH_FUNC_ls%%", "BASH_FUNC_ls()", "IFS", "PS4", "SHELLOPTS", "PERL5LIB",
            "PERL5OPT", "PERL5DB", "RUBYOPT", "RUBYLIB", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME",
            "PYTHONWARNINGS", "NODE_OPTIONS", "NODE_PATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS",
            "JDK_JAVA_OPTIONS", "CLASSPATH", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_COUNT",
            "GIT_CONFIG_KEY_0", "GIT_EXEC_PATH", "LESSOPEN", "PAGER", "EDITOR", "OPENSSL_CONF",
            "OPENSSL_MODULES", "OPENSSL_ENGINES", "DOTNET_STARTUP_HOOKS", "DOTNET_GCName",
            "CORECLR_PROFILER_PATH", "COMPlus_AltJitName", "LUA_INIT_5_4", "PHPRC", "TAR_OPTIONS",
            "RSYNC_RSH", "SSH_ASKPASS", "GTK_MODULES", "QT_PLUGIN_PATH", "HOME", "XDG_CONFIG_HOME",
            "RESTIC_PASSWORD_COMMAND", "DBUS_SESSION_BUS_ADDRESS", "KUBECONFIG", "HOSTALIASES",
        ];
        for name in names {
            assert!(chooses_code(name), "{name}");
        }
    }

    #[test]
    fn usual_names_of_secrets_are_accepted() {
        for name in [
            "DB_PASSWORD",
            "DATABASE_URL",
            "API_KEY",
            "PGPASSWORD",
            "PGHOST",
            "MYSQL_PWD",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_REGION",
            "GIT_TOKEN",
            "GIT_USERNAME",
            "GITHUB_TOKEN",
            "NODE_ENV",
            "NODE_AUTH_TOKEN",
            "DOTNET_ENVIRONMENT",
            "ASPNETCORE_URLS",
            "RAILS_MASTER_KEY",
            "SECRET_KEY_BASE",
            "DJANGO_SETTINGS_MODULE",
            "RESTIC_PASSWORD",
            "RESTIC_REPOSITORY",
            "BORG_PASSPHRASE",
            "HTTPS_PROXY",
            "LANG",
            "TZ",
            "USER",
            "PORT",
            "LESSON_KEY",
            "PATHS",
            "MY_PATH",
            "LDAP_PASSWORD",
            "KRB5_PASSWORD",
            "PERLA",
            "HOMEPAGE",
            "ENVIRONMENT",
            "REDISCLI_AUTH",
            "VAULT_TOKEN",
            "CCTV_KEY",
            "RCLONE_CONFIG_PASS",
            "DOCKER_PASSWORD",
            "SSH_PRIVATE_KEY",
            "SMTP_PASSWORD",
            "SENTRY_DSN",
            "JAVA_KEYSTORE_PASSWORD",
        ] {
            assert!(!chooses_code(name), "{name}");
        }
    }

    #[test]
    fn list_has_each_name_once_and_each_exception_has_a_prefix() {
        let mut seen = BTreeSet::new();
        for name in NAMES {
            assert!(crate::check::variable(name).is_ok() && seen.insert(*name), "{name}");
        }
        for name in HARMLESS {
            assert!(PREFIXES.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        }
    }
}
