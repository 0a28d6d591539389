//! Faults and settings of the fake for one directory, key, route or identity.
//!
//! A rule applies to the requests that its `match` selects: `secretPath` (that directory, not those
//! below it), `key`, `route` (`list`, `get`, `login`, `renew`, `imports`, `batch`, `write`, …),
//! `identity` (an id, for logins and for requests with its token), `method`, `pathPrefix`. Other
//! requests are answered as usual. For several rules use [`FakeInfisical::faults`] with the values
//! of [`rule`].

use serde_json::{Value, json};

use super::fake_infisical::{CLIENT_SECRET, FakeInfisical, IDENTITY, PROJECT};

/// Faults by name, for [`rule`] and the methods below.
pub mod fault {
    use serde_json::{Value, json};

    /// 500 in the server's envelope.
    pub fn server_error() -> Value {
        json!({"kind": "status", "code": 500})
    }

    /// An error in the server's envelope: `(403, "PermissionDenied", "You are not …")`.
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

    /// 200 without a listing. Others are `captive-portal`, `garbage-json` and `wrong-shape`;
    /// `empty-listing` is a valid one without a secret.
    pub fn odd_200() -> Value {
        json!({"kind": "wrong-shape"})
    }

    /// The right answer after this time.
    pub fn slow(ms: u64) -> Value {
        json!({"kind": "delay", "ms": ms})
    }

    /// Fastify's bare 404, "Route … not found", which has no `reqId`.
    pub fn route_not_found() -> Value {
        json!({"kind": "route-not-found"})
    }

    /// The server's Postgres is down: 500 with the name of a database call, `/api/status` 200.
    pub fn postgres_down() -> Value {
        json!({"kind": "postgres-down"})
    }

    /// A login's 429 without `retry-after`.
    pub fn lock_contended() -> Value {
        json!({"kind": "lock-contended"})
    }

    /// A login's 401 for a locked identity. The fake also locks by itself, after three wrong
    /// secrets within 30 s of its clock, for 300 s.
    pub fn locked() -> Value {
        refusal(
            401,
            "UnauthorizedError",
            "This identity auth method is temporarily locked, please try again later",
        )
    }
}

/// One rule of [`FakeInfisical::faults`]: `fault` for the requests that `matching` selects.
pub fn rule(matching: &Value, fault: &Value) -> Value {
    json!({"match": matching, "fault": fault})
}

/// The same for the first `times` requests only.
fn rule_times(times: u32, matching: &Value, fault: &Value) -> Value {
    json!({"match": matching, "fault": fault, "times": times})
}

impl FakeInfisical {
    /// Applies the fault to each read of this directory, by listing or by name.
    pub fn fault_directory(&self, path: &str, fault: &Value) {
        self.faults(&json!([rule(&json!({"secretPath": path}), fault)]));
    }

    /// Applies the fault to listings of this directory; gets by name succeed.
    pub fn fault_listing(&self, path: &str, fault: &Value) {
        self.faults(&json!([rule(&json!({"secretPath": path, "route": "list"}), fault)]));
    }

    /// Applies the fault to logins of this identity; requests with a token succeed.
    pub fn fault_login(&self, identity: &str, fault: &Value) {
        self.faults(&json!([rule(&json!({"identity": identity, "route": "login"}), fault)]));
    }

    /// Applies the fault to each request of this identity.
    pub fn fault_identity(&self, identity: &str, fault: &Value) {
        self.faults(&json!([rule(&json!({"identity": identity}), fault)]));
    }

    /// This route is unknown once.
    pub fn lose_route_once(&self, route: &str) {
        let rule = rule_times(1, &json!({"route": route}), &fault::route_not_found());
        self.faults(&json!([rule]));
    }

    /// Limits per minute and client address: `{"list": 40}`, also `get`, `login`, `imports`, and
    /// for all others `read`, `write`, `secret`. Each route has its own window. 429 has
    /// `retry-after`.
    pub fn limit(&self, limits: &Value) {
        self.settings(&json!({"rateLimit": limits}));
    }

    /// How long old permissions still apply; 10 s at the real server. With 0, the default, a change
    /// takes effect at once. With 10, a listing between a change and its effect turns each later
    /// conditional request into a 304 while plain ones are 403. Ends by [`Self::advance`] or in
    /// real time.
    pub fn cache_permissions(&self, seconds: u64) {
        self.settings(&json!({"permissionCacheSeconds": seconds}));
    }

    /// Removes the identity from the project: 403 `ProjectMembershipNotFound`.
    pub fn end_membership(&self) {
        let body = json!({"project": PROJECT, "identity": IDENTITY, "member": false});
        self.control("PUT", "/permission", &body);
    }

    /// Deletes the identity: its token and its login are 401. [`Self::put_identity`] restores it.
    pub fn delete_identity(&self, id: &str) {
        self.control("DELETE", "/identity", &json!({"identity": id}));
    }

    /// Adds or replaces an identity, in a seed's form.
    pub fn put_identity(&self, identity: &Value) {
        self.control("PUT", "/identity", identity);
    }

    /// Changes the client secret of the test's identity; issued tokens stay valid.
    pub fn change_client_secret(&self, secret: &str) {
        self.put_identity(&identity(IDENTITY, "client", secret));
    }

    /// Imports a directory into another one, both of `prod`, above the present imports.
    pub fn import(&self, into: &str, from: &str) {
        let import = json!({"environment": "prod", "path": into,
                            "from": {"environment": "prod", "path": from}});
        self.control("PUT", "/import", &json!({"project": PROJECT, "import": import}));
    }
}

/// An identity with this client id and secret.
pub fn identity(id: &str, client: &str, secret: &str) -> Value {
    json!({"id": id, "name": client, "clientId": client,
           "clientSecrets": [{"id": format!("secret-of-{id}"), "secret": secret}]})
}

/// [`super::seed`] with a second identity: id `other`, client id `other-client`, the same secret.
pub fn seed_with_two_identities(secrets: &Value) -> Value {
    let mut seed = super::fake_infisical::seed(secrets);
    let identities = seed["identities"].as_array_mut().unwrap();
    identities.push(identity("other", "other-client", CLIENT_SECRET));
    seed
}
