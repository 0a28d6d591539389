//! What a test can break or change at the fake for one directory, one key, one route or one identity.
//!
//! A rule strikes the requests that its `match` admits: `secretPath` (that directory, not those below
//! it), `key`, `route` (`list`, `get`, `login`, `renew`, `imports`, `batch`, `write`, …), `identity`
//! (an id, for logins and for requests with its token), `method`, `pathPrefix`. Everything else is
//! answered as usual. Several rules: [`FakeInfisical::faults`] with the values of [`rule`].

use serde_json::{Value, json};

use super::fake_infisical::{CLIENT_SECRET, FakeInfisical, IDENTITY, PROJECT};

/// Faults by name, for [`rule`] and the methods below.
pub mod fault {
    use serde_json::{Value, json};

    /// 500 in the server's envelope.
    pub fn server_error() -> Value {
        json!({"kind": "status", "code": 500})
    }

    /// A refusal in the server's envelope: `(403, "PermissionDenied", "You are not …")`.
    pub fn refusal(code: u16, error: &str, message: &str) -> Value {
        json!({"kind": "status", "code": code, "error": error, "message": message})
    }

    /// 429 with `retry-after`.
    pub fn too_many(retry_after: u64) -> Value {
        let message = format!("Rate limit exceeded. Please try again in {retry_after} seconds");
        json!({"kind": "status", "code": 429, "error": "RateLimitExceeded",
               "message": message, "retryAfter": retry_after})
    }

    /// 403 as HTML, from a gateway.
    pub fn gateway_page() -> Value {
        json!({"kind": "html-403-waf"})
    }

    /// 200, and no listing. Also `captive-portal`, `garbage-json`, `wrong-shape`; and
    /// `empty-listing`, which is a valid one without a secret.
    pub fn odd_200() -> Value {
        json!({"kind": "wrong-shape"})
    }

    /// The right answer, late.
    pub fn slow(ms: u64) -> Value {
        json!({"kind": "delay", "ms": ms})
    }

    /// Fastify's bare 404, "Route … not found", which has no `reqId`.
    pub fn route_not_found() -> Value {
        json!({"kind": "route-not-found"})
    }

    /// The server's Postgres is out: 500 with the name of a database call, `/api/status` 200.
    pub fn postgres_down() -> Value {
        json!({"kind": "postgres-down"})
    }

    /// A login's 429 without `retry-after`.
    pub fn lock_contended() -> Value {
        json!({"kind": "lock-contended"})
    }

    /// A login's 401 while the identity is locked. The fake locks by itself, too: three wrong
    /// secrets within 30 s of its clock, for 300 s.
    pub fn locked() -> Value {
        refusal(
            401,
            "UnauthorizedError",
            "This identity auth method is temporarily locked, please try again later",
        )
    }
}

/// One rule of [`FakeInfisical::faults`]: the requests that `matching` admits meet `fault`.
pub fn rule(matching: &Value, fault: &Value) -> Value {
    json!({"match": matching, "fault": fault})
}

/// The same, for the first such requests alone.
fn rule_times(times: u32, matching: &Value, fault: &Value) -> Value {
    json!({"match": matching, "fault": fault, "times": times})
}

impl FakeInfisical {
    /// Each read of this directory meets the fault, by listing or by name; other directories are well.
    pub fn fault_directory(&self, path: &str, fault: &Value) {
        self.faults(&json!([rule(&json!({"secretPath": path}), fault)]));
    }

    /// The listing of this directory meets the fault; gets by name in it are well.
    pub fn fault_listing(&self, path: &str, fault: &Value) {
        self.faults(&json!([rule(&json!({"secretPath": path, "route": "list"}), fault)]));
    }

    /// Logins of this identity meet the fault; what has a token goes on.
    pub fn fault_login(&self, identity: &str, fault: &Value) {
        self.faults(&json!([rule(&json!({"identity": identity, "route": "login"}), fault)]));
    }

    /// Each request of this identity meets the fault; other identities are well.
    pub fn fault_identity(&self, identity: &str, fault: &Value) {
        self.faults(&json!([rule(&json!({"identity": identity}), fault)]));
    }

    /// This route is unknown once.
    pub fn lose_route_once(&self, route: &str) {
        let rule = rule_times(1, &json!({"route": route}), &fault::route_not_found());
        self.faults(&json!([rule]));
    }

    /// Limits per minute and client address: `{"list": 40}`, also `get`, `login`, `imports`, and for
    /// all others `read`, `write`, `secret`. Each route has its own window. 429 has `retry-after`.
    pub fn limit(&self, limits: &Value) {
        self.settings(&json!({"rateLimit": limits}));
    }

    /// How long the fake goes by permissions as they were; the server has 10 s. 0, the default, makes
    /// a change act at once. With 10, a listing between a change and its effect makes each later
    /// conditional request a 304 while plain ones are 403. Ends by [`Self::advance`], or real time.
    pub fn cache_permissions(&self, seconds: u64) {
        self.settings(&json!({"permissionCacheSeconds": seconds}));
    }

    /// The identity is no member of the project any more: 403 `ProjectMembershipNotFound`.
    pub fn end_membership(&self) {
        let body = json!({"project": PROJECT, "identity": IDENTITY, "member": false});
        self.control("PUT", "/permission", &body);
    }

    /// The identity is deleted: its token is a 401, its login too. [`Self::put_identity`] brings it back.
    pub fn delete_identity(&self, id: &str) {
        self.control("DELETE", "/identity", &json!({"identity": id}));
    }

    /// An identity as a seed has it: a new one, or another form of one that is there.
    pub fn put_identity(&self, identity: &Value) {
        self.control("PUT", "/identity", identity);
    }

    /// The test's own identity has this client secret now; tokens that are out there stay good.
    pub fn change_client_secret(&self, secret: &str) {
        self.put_identity(&identity(IDENTITY, "client", secret));
    }

    /// Another directory's secrets are shown in this one, both of `prod`, above the imports so far.
    pub fn import(&self, into: &str, from: &str) {
        let import = json!({"environment": "prod", "path": into,
                            "from": {"environment": "prod", "path": from}});
        self.control("PUT", "/import", &json!({"project": PROJECT, "import": import}));
    }
}

/// An identity that logs in with this client id and secret.
pub fn identity(id: &str, client: &str, secret: &str) -> Value {
    json!({"id": id, "name": client, "clientId": client,
           "clientSecrets": [{"id": format!("secret-of-{id}"), "secret": secret}]})
}

/// [`super::seed`] with a second identity, id `other`, client id `other-client`, of the same secret.
pub fn seed_with_two_identities(secrets: &Value) -> Value {
    let mut seed = super::fake_infisical::seed(secrets);
    let identities = seed["identities"].as_array_mut().unwrap();
    identities.push(identity("other", "other-client", CLIENT_SECRET));
    seed
}
