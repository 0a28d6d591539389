//! All faults around psid (`facts/infisical.md` 10, and more).

use serde_json::{Value, json};

use super::secrets::SECOND;
use psi_harness::{BROKEN_ANSWERS, fault as say, rule};

/// One fault.
#[derive(Clone)]
pub(super) struct Fault {
    /// Its name in the table.
    pub(super) name: String,
    pub(super) way: Way,
    /// Its meaning to psid.
    pub(super) class: Class,
    /// The one directory, or `/directory/KEY`, that it affects; `None` is all of them. In a
    /// [`Class::Partial`] without one, no secret of the clients is affected.
    pub(super) hurts: Option<&'static str>,
}

#[derive(Clone)]
pub(super) enum Way {
    /// Rules of the fake.
    Rules(Value),
    /// Settings of the fake, and those that end the fault.
    Settings(Value, Value),
    /// The identity's permissions.
    Rights(Value),
    /// Packets are dropped.
    BlackHole,
    /// The provider's process is stopped.
    Stopped,
    /// It is killed, and started again at the end.
    Dead,
    /// It is killed and started again at once.
    Restarted,
    /// Logins of this identity, or of both, get this answer, and tokens are revoked.
    Login(Option<&'static str>, Value),
    /// An identity is deleted.
    IdentityDeleted,
    /// Its membership in the project ends, which acts after 10 s.
    MembershipEnds,
    /// This route is unknown for one request.
    RouteLost(&'static str),
    /// A secret refers to one that may not be read, so that others of its directory are fetched by
    /// name; and these rules apply.
    Unreadable(Value),
    /// A secret is larger than podman's limit.
    Oversized,
    /// There is another source of many directories, and these rules apply.
    Wide(Value),
    /// Tokens are revoked; logins work.
    TokensRevoked,
    /// Tokens have expired.
    TokensExpired,
    /// The provider is restarted with a certificate of this kind.
    Certificate(&'static str),
    /// Another dialect.
    Dialect(&'static str),
    /// psid gets SIGKILL and is restarted.
    Crash,
    /// psid gets SIGTERM and is restarted.
    Stop,
    /// psid gets SIGHUP.
    Reload,
    /// Two secrets are removed at the provider, and these rules apply.
    Removed(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// No answer is the provider's own: psid makes few requests.
    Outage,
    /// The same for longer: the provider asks for a pause that no admin can shorten.
    LongPause,
    /// The provider refuses the login, which is no statement about a secret.
    LoginRefused,
    /// The provider denies the secrets.
    Denial,
    /// One directory, key or identity is affected: all others are refreshed, rotated and revoked,
    /// and uncached ones are served.
    Partial,
    /// The provider works, at least at times.
    Working,
}

impl Fault {
    pub(super) fn all() -> Vec<Self> {
        [outages(), refusals(), partials(), oddities(), upheavals()].concat()
    }

    /// A step without a fault.
    pub(super) fn none(name: &str) -> Self {
        of(name, Way::Rules(json!([])), Class::Outage)
    }

    /// Whether the fake's control port answers meanwhile.
    pub(super) fn reaches_control(&self) -> bool {
        !matches!(self.way, Way::Stopped | Way::Dead)
    }
}

fn outages() -> Vec<Fault> {
    let plain = ["refuse", "hang"].iter().chain(&BROKEN_ANSWERS);
    let mut all: Vec<_> = plain.map(|kind| fault(kind, &json!({"kind": kind}))).collect();
    all.push(fault("slow-drip", &json!({"kind": "slow-drip", "bytesPerSecond": 1})));
    all.push(fault(
        "redirect",
        &json!({"kind": "redirect", "location": "http://127.0.0.1:1/", "code": 302}),
    ));
    all.push(fault("delay beyond the timeout", &json!({"kind": "delay", "ms": 5000})));
    for (code, error, message) in [
        (500, "InternalServerError", "Something went wrong"),
        (504, "GatewayTimeoutError", "upstream"),
        (429, "RateLimitExceeded", "Rate limit exceeded. Please try again in 2 seconds"),
    ] {
        all.push(fault(&format!("{code} {error}"), &status(code, error, message)));
    }
    all.push(of("packets dropped", Way::BlackHole, Class::Outage));
    all.push(of("provider stopped (SIGSTOP)", Way::Stopped, Class::Outage));
    all.push(of("provider killed", Way::Dead, Class::Outage));
    all.push(of("certificate expired", Way::Certificate("expired"), Class::Outage));
    all.push(of("certificate of another CA", Way::Certificate("wrong-ca"), Class::Outage));
    all.push(fault("Postgres down", &say::postgres_down()));
    all.push(of(
        "two reads a minute",
        Way::Settings(json!({"rateLimit": {"secret": 2}}), json!({"rateLimit": null})),
        Class::LongPause,
    ));
    all
}

fn refusals() -> Vec<Fault> {
    let describe = json!([
        {"environment": "*", "pathPrefix": "/", "describe": true, "read": false, "write": false},
    ]);
    let denied = status(403, "PermissionDenied", "You are not allowed to read on secrets");
    let login =
        |name: &str, refusal: Value| of(name, Way::Login(None, refusal), Class::LoginRefused);
    let unauthorized = |message: &str| say::refusal(401, "UnauthorizedError", message);
    vec![
        login("client secret refused", unauthorized("Invalid credentials")),
        login("client secret expired", unauthorized("Access denied due to expired client secret")),
        login(
            "trust binding missing",
            say::refusal(403, "ForbiddenError", "Access denied: no trust binding"),
        ),
        login("identity locked", say::locked()),
        login("login's lock contended", say::lock_contended()),
        of("identity deleted", Way::IdentityDeleted, Class::LoginRefused),
        of("denied by permission", Way::Rights(describe), Class::Denial),
        of("403 PermissionDenied", Way::Rules(json!([{"fault": denied}])), Class::Denial),
        of("membership ended", Way::MembershipEnds, Class::Denial),
        of("two secrets removed", Way::Removed(json!([])), Class::Working),
    ]
}

/// The faults that affect one thing only.
fn partials() -> Vec<Fault> {
    let partial = |name: &str, way: Way, hurts| Fault { hurts, ..of(name, way, Class::Partial) };
    let directory = |what: &str, fault: Value| {
        let rules = json!([rule(&json!({"secretPath": "/b"}), &fault)]);
        partial(&format!("one directory: {what}"), Way::Rules(rules), Some("/b"))
    };
    let other = |what: &str, fault: Value| {
        let name = format!("another identity: {what}");
        partial(&name, Way::Login(Some("other"), fault), Some(SECOND))
    };
    let key = rule(&json!({"secretPath": "/b", "key": "B1"}), &say::server_error());
    let limit = json!([
        {"match": {"route": "list"}, "fault": say::too_many(1), "after": 20, "times": 3},
        {"match": {"route": "list"}, "fault": say::too_many(1), "after": 50, "times": 3},
    ]);
    let beside = json!([rule(&json!({"secretPath": "/b"}), &say::server_error())]);
    let empty = Fault {
        class: Class::Denial,
        ..directory("an empty 200", json!({"kind": "empty-listing"}))
    };
    vec![
        directory("500", say::server_error()),
        directory("a gateway's 403 page", say::gateway_page()),
        directory("an odd 200", say::odd_200()),
        directory("a portal's 200", json!({"kind": "captive-portal"})),
        directory("slow", say::slow(5000)),
        empty,
        partial("one key: 500", Way::Unreadable(json!([key])), Some("/b/B1")),
        other("429", say::too_many(2)),
        other("login refused", say::refusal(401, "UnauthorizedError", "Invalid credentials")),
        partial("one unreadable reference", Way::Unreadable(json!([])), None),
        partial("one value too large", Way::Oversized, None),
        partial("two removed while one directory fails", Way::Removed(beside), Some("/b")),
        of("route unknown once", Way::RouteLost("list"), Class::Working),
        of("wide source, throttled", Way::Wide(limit), Class::Working),
    ]
}

fn oddities() -> Vec<Fault> {
    let setting =
        |name: &str, on: Value, off: Value| of(name, Way::Settings(on, off), Class::Working);
    let rule = |name: &str, rules: Value| of(name, Way::Rules(rules), Class::Working);
    vec![
        rule("delay", json!([{"fault": {"kind": "delay", "ms": 800}}])),
        rule("huge-list", json!([{"fault": {"kind": "huge-list", "entries": 5000}}])),
        rule(
            "five answers are reset",
            json!([{"fault": {"kind": "reset"}, "after": 3, "times": 5}]),
        ),
        rule("maintenance", json!([{"fault": {"kind": "maintenance"}}])),
        setting(
            "clock an hour ahead",
            json!({"clockSkewSeconds": 3600}),
            json!({"clockSkewSeconds": 0}),
        ),
        setting(
            "clock a day behind",
            json!({"clockSkewSeconds": -86400}),
            json!({"clockSkewSeconds": 0}),
        ),
        setting(
            "tokens without expiry",
            json!({"expiresInZero": true}),
            json!({"expiresInZero": false}),
        ),
        setting(
            "another AUTH_SECRET",
            json!({"authSecret": "other"}),
            json!({"authSecret": "one"}),
        ),
        of("v3 only", Way::Dialect("v3-only"), Class::Working),
        of("v4 of 2025", Way::Dialect("v4-2025"), Class::Working),
        of("tokens revoked", Way::TokensRevoked, Class::Working),
        of("tokens expired", Way::TokensExpired, Class::Working),
    ]
}

fn upheavals() -> Vec<Fault> {
    vec![
        of("provider restarted", Way::Restarted, Class::Working),
        of("psid killed (SIGKILL)", Way::Crash, Class::Working),
        of("psid stopped (SIGTERM)", Way::Stop, Class::Working),
        of("psid reloaded (SIGHUP)", Way::Reload, Class::Working),
    ]
}

fn fault(name: &str, fault: &Value) -> Fault {
    of(name, Way::Rules(json!([{ "fault": fault }])), Class::Outage)
}

fn of(name: &str, way: Way, class: Class) -> Fault {
    Fault { name: name.into(), way, class, hurts: None }
}

fn status(code: u16, error: &str, message: &str) -> Value {
    json!({"kind": "status", "code": code, "error": error, "message": message})
}
