//! `psictl env`: prints a workload's variables, for an env-file, a shell or a program that reads JSON.

use psi_common::{Exit, Paths, SecretBytes};
use zeroize::Zeroizing;

use super::client;
use super::variables::{self, Variables};
use crate::ctl::args::{EnvFormat, EnvOptions};
use crate::error::CliError;
use crate::stdio;

pub(crate) fn run(paths: &Paths, options: &EnvOptions) -> Result<(), CliError> {
    let variables = variables::of(&client(paths), &options.workload, &options.allow, "env")?;
    stdio::write_value(&written(&variables, options.format)?)
}

/// The whole text, before any of it is printed.
fn written(variables: &Variables, format: EnvFormat) -> Result<SecretBytes, CliError> {
    // Allocated at once: a buffer that grows leaves copies of secrets behind. JSON escapes a byte by six at most.
    let length = variables.iter().map(|(name, value)| name.len() + 6 * value.len() + 16);
    let mut out = Zeroizing::new(Vec::with_capacity(length.sum::<usize>() + 4));
    if format == EnvFormat::Json {
        out.extend_from_slice(b"{");
    }
    for (index, (name, value)) in variables.iter().enumerate() {
        let value = value.expose_secret();
        match format {
            EnvFormat::Env => line(&mut out, name, value)?,
            EnvFormat::Export => export(&mut out, name, value),
            EnvFormat::Json => {
                out.extend_from_slice(if index == 0 { b"\n  " } else { b",\n  " });
                member(&mut out, name, value)?;
            }
        }
    }
    if format == EnvFormat::Json {
        out.extend_from_slice(if variables.is_empty() { b"}\n" } else { b"\n}\n" });
    }
    Ok(SecretBytes::new(std::mem::take(&mut *out)))
}

/// `NAME=VALUE` without quotes, as podman's and docker's `--env-file` read it: to the end of the line, less a carriage
/// return.
fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) -> Result<(), CliError> {
    if value.contains(&b'\n') || value.ends_with(b"\r") {
        return Err(unfit(name, "has a line end, which no line of an env-file can hold", "export"));
    }
    if std::str::from_utf8(value).is_err() {
        return Err(unfit(name, "is not UTF-8, which docker refuses in an env-file", "export"));
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
    Ok(())
}

/// A command of a POSIX shell. In single quotes, a shell takes every byte as it is.
fn export(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b"export ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    quote_for_shell(out, value);
    out.push(b'\n');
}

/// Appends a word of a POSIX shell.
pub(super) fn quote_for_shell(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'\'');
    for byte in value {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            other => out.push(*other),
        }
    }
    out.push(b'\'');
}

fn member(out: &mut Vec<u8>, name: &str, value: &[u8]) -> Result<(), CliError> {
    let text = std::str::from_utf8(value).ok();
    let text = text.ok_or_else(|| unfit(name, "is not UTF-8, which JSON cannot hold", "export"))?;
    // Neither can fail: the target is a vector, and the value a text.
    let _ = serde_json::to_writer(&mut *out, name);
    out.extend_from_slice(b": ");
    let _ = serde_json::to_writer(&mut *out, text);
    Ok(())
}

fn unfit(name: &str, what: &str, other: &str) -> CliError {
    CliError::new(
        Exit::BadInput,
        format!("the value of {name} {what}; nothing was printed"),
        format!("use --format {other}, or write it to a file with `psictl render`"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(pairs: &[(&str, &[u8])]) -> Variables {
        let pair =
            |(name, value): &(&str, &[u8])| ((*name).to_owned(), SecretBytes::new(value.to_vec()));
        pairs.iter().map(pair).collect()
    }

    fn text(pairs: &[(&str, &[u8])], format: EnvFormat) -> Result<String, String> {
        let written = written(&variables(pairs), format).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(written.into_exposed()).unwrap())
    }

    #[test]
    fn written_quotes_for_each_format() {
        let pairs: [(&str, &[u8]); 2] = [("B", b"it's $x \"#"), ("A", b" 1 ")];
        assert_eq!(text(&pairs, EnvFormat::Env).unwrap(), "A= 1 \nB=it's $x \"#\n");
        let exported = "export A=' 1 '\nexport B='it'\\''s $x \"#'\n";
        assert_eq!(text(&pairs, EnvFormat::Export).unwrap(), exported);
        let json = "{\n  \"A\": \" 1 \",\n  \"B\": \"it's $x \\\"#\"\n}\n";
        assert_eq!(text(&pairs, EnvFormat::Json).unwrap(), json);
        for (format, empty) in
            [(EnvFormat::Env, ""), (EnvFormat::Export, ""), (EnvFormat::Json, "{}\n")]
        {
            assert_eq!(text(&[], format).unwrap(), empty);
        }
    }

    #[test]
    fn written_names_the_key_of_a_value_that_the_format_cannot_hold() {
        for (value, format) in [
            (&b"a\nb"[..], EnvFormat::Env),
            (b"a\r", EnvFormat::Env),
            (b"\xff", EnvFormat::Env),
            (b"\xff", EnvFormat::Json),
        ] {
            let error = text(&[("A", b"1"), ("KEY", value)], format).unwrap_err();
            assert!(error.starts_with("the value of KEY "), "{error}");
        }
        assert_eq!(text(&[("A", b"a\nb\r")], EnvFormat::Export).unwrap(), "export A='a\nb\r'\n");
    }

    proptest! {
        #[test]
        fn json_is_read_back(value in "[^\0]{0,20}") {
            let text = text(&[("KEY", value.as_bytes())], EnvFormat::Json).unwrap();
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&parsed, &serde_json::json!({"KEY": value}));
        }
    }
}
