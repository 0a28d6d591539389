//! The rules by which faults apply to requests.

use serde::{Deserialize, Serialize};

use super::Fault;
use super::subject::Subject;
use crate::api::route::Route;
use crate::net::PublicPort;
use crate::state::project::normal_path;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    port: PublicPort,
    #[serde(default, rename = "match")]
    matching: Matching,
    pub fault: Fault,
    /// Applies to this many requests, then never again
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    /// Lets this many matching requests pass first
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Matching {
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Route>,
    /// The directory of the request: this one, not those below it
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_path: Option<String>,
    /// The secret that is requested by name
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The id of the identity that logs in, or of the token
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

impl Matching {
    fn admits(&self, subject: &Subject<'_>) -> bool {
        let request = subject.request;
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let path = self.secret_path.as_deref().map(normal_path);
        self.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(&request.method))
            && request.path.starts_with(self.path_prefix.as_deref().unwrap_or_default())
            && (self.route.is_none() || self.route == subject.route)
            && is(&path, &subject.secret_path)
            && is(&self.key, &subject.key)
            && is(&self.identity, &subject.identity)
    }
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.port == subject.face && self.matching.admits(subject) && self.fault.concerns(subject)
    }

    /// A closed port sees no requests, so it can neither match nor count them.
    fn is_sound(&self) -> bool {
        let unconditional =
            self.matching == Matching::default() && self.times.is_none() && self.after.is_none();
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
pub struct FaultRules {
    pub rules: Vec<Armed>,
}

impl FaultRules {
    pub fn replace(&mut self, rules: Vec<Rule>) -> Result<(), String> {
        if !rules.iter().all(Rule::is_sound) {
            return Err("refuse takes neither match, times nor after".to_owned());
        }
        let armed = |rule| Armed { rule, seen: 0, hits: 0 };
        self.rules = rules.into_iter().map(armed).collect();
        Ok(())
    }

    pub fn refuses(&self, face: PublicPort) -> bool {
        self.rules.iter().any(|a| a.rule.port == face && a.rule.fault == Fault::Refuse)
    }

    /// The first rule that matches and is neither waiting nor exhausted applies.
    pub fn strike(&mut self, subject: &Subject<'_>) -> Option<Fault> {
        for armed in &mut self.rules {
            if !armed.rule.matches(subject) {
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
    use crate::http::request::Request;
    use serde_json::json;

    fn rules_of(rules: serde_json::Value) -> Result<FaultRules, String> {
        let mut all = FaultRules::default();
        all.replace(serde_json::from_value(rules).unwrap())?;
        Ok(all)
    }

    fn request(method: &str, path: &str) -> Request {
        Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() }
    }

    fn strike(rules: &mut FaultRules, request: &Request) -> Option<Fault> {
        rules.strike(&Subject {
            request,
            face: PublicPort::Api,
            route: Some(Route::List),
            secret_path: Some("/b".to_owned()),
            key: None,
            identity: Some("i".to_owned()),
        })
    }

    #[test]
    fn rule_matches_directory_route_and_identity() {
        let list = request("GET", "/api/v4/secrets");
        for (matching, strikes) in [
            (json!({"secretPath": "/b/"}), true),
            (json!({"secretPath": "/"}), false),
            (json!({"route": "list", "identity": "i"}), true),
            (json!({"route": "get"}), false),
            (json!({"identity": "j"}), false),
            (json!({"key": "K"}), false),
        ] {
            let rule = json!([{"match": matching, "fault": {"kind": "hang"}}]);
            assert_eq!(
                strike(&mut rules_of(rule).unwrap(), &list).is_some(),
                strikes,
                "{matching}"
            );
        }
    }

    #[test]
    fn rule_applies_after_its_delay_for_its_count() {
        let mut rules = rules_of(json!([
            {"match": {"method": "get", "pathPrefix": "/a"}, "fault": {"kind": "hang"},
             "after": 1, "times": 1},
            {"fault": {"kind": "maintenance"}},
        ]))
        .unwrap();
        assert_eq!(strike(&mut rules, &request("GET", "/a")), None);
        assert_eq!(strike(&mut rules, &request("GET", "/b")), None);
        assert_eq!(strike(&mut rules, &request("GET", "/a/x")), Some(Fault::Hang));
        assert_eq!(strike(&mut rules, &request("GET", "/a")), None);
        assert_eq!(strike(&mut rules, &request("POST", "/a")), Some(Fault::Maintenance));
        let shown = serde_json::to_value(&rules.rules).unwrap();
        assert_eq!((&shown[0]["seen"], &shown[0]["hits"]), (&json!(3), &json!(1)));
    }

    #[test]
    fn refusal_takes_no_conditions_and_unknown_fields_are_errors() {
        assert!(rules_of(json!([{"fault": {"kind": "refuse"}}])).unwrap().refuses(PublicPort::Api));
        assert!(rules_of(json!([{"fault": {"kind": "refuse"}, "times": 1}])).is_err());
        let typo = json!({"fault": {"kind": "delay", "seconds": 1}});
        assert!(serde_json::from_value::<Rule>(typo).is_err());
    }
}
