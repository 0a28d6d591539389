//! The generations of servers in use, and their query parameters.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A generation of server. `v4` changed incompatibly within itself: a parameter was renamed and two
/// defaults changed, so a client that uses only one spelling silently loses its imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Dialect {
    /// Before September 2025: `v4` answers the bare route-404
    #[serde(rename = "v3-only")]
    #[value(name = "v3-only")]
    V3Only,
    /// `v4` as first released
    #[serde(rename = "v4-2025")]
    #[value(name = "v4-2025")]
    V4First,
    /// `v4` since February 2026, with its own ETag on lists
    #[serde(rename = "v4-2026")]
    #[value(name = "v4-2026")]
    V4Current,
}

/// The secrets API of a request. `v3` is the same on every server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    V3,
    V4,
}

/// The names and defaults of a secrets query.
pub struct Spelling {
    pub imports: &'static str,
    pub imports_by_default: bool,
    pub expand_by_default: bool,
    /// The handler itself answers the list with 304, with an ETag that is not a body hash
    pub native_etag: bool,
}

impl Dialect {
    pub fn has_v4(self) -> bool {
        self != Self::V3Only
    }

    /// Secret names with spaces are rejected before the first `v4`.
    pub fn allows_spaces_in_names(self) -> bool {
        self != Self::V3Only
    }

    pub fn spelling(self, api: Api) -> Spelling {
        let current = api == Api::V4 && self == Self::V4Current;
        Spelling {
            imports: if current { "includeImports" } else { "include_imports" },
            imports_by_default: current,
            expand_by_default: current,
            native_etag: self == Self::V4Current,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_current_v4_includes_imports_by_default() {
        for dialect in [Dialect::V3Only, Dialect::V4First, Dialect::V4Current] {
            let v3 = dialect.spelling(Api::V3);
            assert_eq!(v3.imports, "include_imports");
            assert!(!v3.imports_by_default && !v3.expand_by_default);
            assert_eq!(v3.native_etag, dialect == Dialect::V4Current);
        }
        let first = Dialect::V4First.spelling(Api::V4);
        assert_eq!((first.imports, first.imports_by_default), ("include_imports", false));
        let current = Dialect::V4Current.spelling(Api::V4);
        assert_eq!((current.imports, current.imports_by_default), ("includeImports", true));
        assert!(current.expand_by_default && current.native_etag);
    }
}
