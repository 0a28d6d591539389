//! A secret's id, which becomes a file name.

use psi_common::{InvalidSecretId, SecretId};
use regex_lite::Regex;

use crate::{Body, assert_words};

/// An id is accepted exactly if it matches podman's own expression, and is returned unchanged.
pub(crate) fn open() -> Body {
    let podman = Regex::new("^[0-9a-f]{25}$").unwrap();
    Box::new(move |input| {
        // As psi-driver reads it from the environment.
        let text = String::from_utf8_lossy(input);
        let id = text.parse::<SecretId>();
        assert_eq!(id.is_ok(), podman.is_match(&text), "{text:?}");
        match id {
            Ok(id) => {
                assert_eq!((id.as_str(), id.to_string()), (&*text, text.to_string()));
                assert_eq!(
                    std::path::Path::new(id.as_str()).file_name(),
                    Some(id.as_str().as_ref())
                );
            }
            Err(error) => {
                assert_eq!(error == InvalidSecretId::Empty, text.is_empty());
                assert_words(&error.to_string());
            }
        }
    })
}
