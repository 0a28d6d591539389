//! The rules that decide which request meets which fault.

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::http::request::Request;
use crate::net::Face;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    port: Face,
    #[serde(default, rename = "match")]
    matching: Matching,
    pub fault: Fault,
    /// Strikes so often, then never again
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    /// Lets so many matching requests pass first
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<u32>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Matching {
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_prefix: Option<String>,
}

impl Matching {
    fn is_everything(&self) -> bool {
        self.method.is_none() && self.path_prefix.is_none()
    }
}

impl Rule {
    fn matches(&self, request: &Request) -> bool {
        let method = self.matching.method.as_deref();
        let prefix = self.matching.path_prefix.as_deref().unwrap_or_default();
        method.is_none_or(|method| method.eq_ignore_ascii_case(&request.method))
            && request.path.starts_with(prefix)
            && self.fault.concerns(&request.method)
    }

    /// A closed port knows nothing of requests, so it can neither choose nor count them.
    fn is_sound(&self) -> bool {
        let unconditional =
            self.matching.is_everything() && self.times.is_none() && self.after.is_none();
        self.fault != Fault::Refuse || unconditional
    }
}

/// A rule with its counters, as `GET /faults` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Armed {
    #[serde(flatten)]
    rule: Rule,
    seen: u32,
    hits: u32,
}

#[derive(Default)]
pub struct FaultBook {
    pub rules: Vec<Armed>,
}

impl FaultBook {
    pub fn replace(&mut self, rules: Vec<Rule>) -> Result<(), String> {
        if !rules.iter().all(Rule::is_sound) {
            return Err("refuse takes neither match, times nor after".to_owned());
        }
        let armed = |rule| Armed { rule, seen: 0, hits: 0 };
        self.rules = rules.into_iter().map(armed).collect();
        Ok(())
    }

    pub fn refuses(&self, face: Face) -> bool {
        self.rules.iter().any(|a| a.rule.port == face && a.rule.fault == Fault::Refuse)
    }

    /// The first rule that matches and is neither waiting nor exhausted strikes.
    pub fn strike(&mut self, request: &Request, face: Face) -> Option<Fault> {
        for armed in &mut self.rules {
            if armed.rule.port != face || !armed.rule.matches(request) {
                continue;
            }
            armed.seen += 1;
            let waiting = armed.seen <= armed.rule.after.unwrap_or(0);
            let exhausted = armed.rule.times.is_some_and(|times| armed.hits >= times);
            if !waiting && !exhausted {
                armed.hits += 1;
                return Some(armed.rule.fault.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn book(rules: serde_json::Value) -> Result<FaultBook, String> {
        let mut book = FaultBook::default();
        book.replace(serde_json::from_value(rules).unwrap())?;
        Ok(book)
    }

    fn request(method: &str, path: &str) -> Request {
        Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() }
    }

    #[test]
    fn rules_wait_strike_and_run_out() {
        let mut book = book(json!([
            {"match": {"method": "get", "pathPrefix": "/a"}, "fault": {"kind": "hang"},
             "after": 1, "times": 1},
            {"fault": {"kind": "maintenance"}},
        ]))
        .unwrap();
        assert_eq!(book.strike(&request("GET", "/a"), Face::Api), None);
        assert_eq!(book.strike(&request("GET", "/b"), Face::Api), None);
        assert_eq!(book.strike(&request("GET", "/a/x"), Face::Api), Some(Fault::Hang));
        assert_eq!(book.strike(&request("GET", "/a"), Face::Api), None);
        assert_eq!(book.strike(&request("POST", "/a"), Face::Api), Some(Fault::Maintenance));
        let shown = serde_json::to_value(&book.rules).unwrap();
        assert_eq!((&shown[0]["seen"], &shown[0]["hits"]), (&json!(3), &json!(1)));
    }

    #[test]
    fn a_refusal_takes_no_conditions_and_typos_are_errors() {
        assert!(book(json!([{"fault": {"kind": "refuse"}}])).unwrap().refuses(Face::Api));
        assert!(book(json!([{"fault": {"kind": "refuse"}, "times": 1}])).is_err());
        let typo = json!({"fault": {"kind": "delay", "seconds": 1}});
        assert!(serde_json::from_value::<Rule>(typo).is_err());
    }
}
