//! URLs of the API. A name in a URL must arrive unchanged: the `url` crate drops tabs and line feeds and then
//! resolves `..`, so that a key could choose the route.

use std::iter::once;

use psi_common::check::excerpt;
use reqwest::Url;

use crate::provider::ProviderError;

/// The URL of `segments` below another one; an error if a segment would not arrive unchanged.
pub(in crate::provider::infisical) fn below(
    base: &Url,
    segments: &[&str],
) -> Result<Url, ProviderError> {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    let before = base.path_segments().into_iter().flatten().map(decoded);
    let mut before: Vec<Vec<u8>> = before.collect();
    before.pop_if(|last| last.is_empty());
    let built = url.path_segments().into_iter().flatten().map(decoded);
    let expected =
        before.into_iter().chain(segments.iter().map(|segment| segment.as_bytes().to_vec()));
    let same_origin = url.origin() == base.origin() && url.query().is_none();
    if same_origin && built.eq(expected) {
        return Ok(url);
    }
    let name = segments.last().copied().unwrap_or_default();
    Err(ProviderError::Misbehaved(format!("no URL can name '{}'", excerpt(name))))
}

/// The URL of `segments` below another one, with a query.
pub(super) fn with_query(
    base: &Url,
    segments: &[&str],
    query: &[(&str, &str)],
) -> Result<Url, ProviderError> {
    let mut url = below(base, segments)?;
    url.query_pairs_mut().extend_pairs(query);
    let sent = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned()));
    if sent.eq(query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))) {
        return Ok(url);
    }
    Err(ProviderError::Misbehaved(
        "no URL can hold the project, the environment and the path".into(),
    ))
}

/// A segment without its percent-encoding.
fn decoded(segment: &str) -> Vec<u8> {
    let mut parts = segment.split('%');
    let first = parts.next().unwrap_or_default().as_bytes().to_vec();
    parts.fold(first, |mut bytes, part| {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => bytes.extend(once(byte).chain(part.bytes().skip(2))),
            None => bytes.extend(once(b'%').chain(part.bytes())),
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Url {
        Url::parse("https://h/infisical/").unwrap()
    }

    fn path_of(segment: &str) -> Option<String> {
        let url = below(&base(), &["api", "v4", "secrets", segment]).ok()?;
        url.path().strip_prefix("/infisical/api/v4/secrets/").map(str::to_owned)
    }

    #[test]
    fn name_becomes_one_segment() {
        for (name, segment) in [
            ("a/b ?c", "a%2Fb%20%3Fc"),
            ("%2e%2e", "%252e%252e"),
            ("%2E", "%252E"),
            ("..%2f", "..%252f"),
            ("a\\b", "a%5Cb"),
            ("..\\..", "..%5C.."),
            ("#", "%23"),
            ("...", "..."),
            ("ä", "%C3%A4"),
        ] {
            assert_eq!(path_of(name).as_deref(), Some(segment), "{name}");
        }
    }

    #[test]
    fn name_that_changes_the_path_is_refused() {
        for name in [
            ".", "..", ".\t.", "\t..", ".\n.", "\r.", "\t", "\n", "a\tb", "a\nb", "a\r", "\t/../x",
            ".\t", "",
        ] {
            let built = below(&base(), &["api", name, "secrets"]);
            let stays = built.as_ref().is_ok_and(|url| url.path() == "/infisical/api//secrets");
            assert!(built.is_err() || (name.is_empty() && stays), "{name:?}: {built:?}");
        }
        let error = below(&base(), &["api", "a\x1b[2J\tb"]).unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }

    proptest! {
        /// A URL either holds exactly its arguments or is not built.
        #[test]
        fn url_round_trips_its_arguments(name in any::<String>(), path in any::<String>()) {
            if let Ok(url) = with_query(&base(), &["api", &name], &[("secretPath", &path)]) {
                let segments: Vec<_> = url.path_segments().unwrap().map(decoded).collect();
                prop_assert_eq!(&segments[..2], [b"infisical".to_vec(), b"api".to_vec()]);
                prop_assert_eq!(segments.len(), 3);
                prop_assert_eq!(&segments[2], name.as_bytes());
                let query: Vec<_> = url.query_pairs().collect();
                prop_assert_eq!(query.len(), 1);
                prop_assert_eq!(&*query[0].1, path.as_str());
            }
        }

        #[test]
        fn dot_segments_do_not_climb(parts in prop::collection::vec(prop::sample::select(vec![".", "..", "\t", "\n", "\r", "%2e", "/", "\\", "a"]), 1..6)) {
            let name = parts.concat();
            if let Ok(url) = below(&base(), &["api", "v4", "secrets", &name]) {
                prop_assert!(url.path().starts_with("/infisical/api/v4/secrets/"));
            }
        }
    }
}
