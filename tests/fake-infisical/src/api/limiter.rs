//! Fixed windows of one minute for each route and client address, as in `@fastify/rate-limit`.

use std::collections::HashMap;
use std::net::IpAddr;

use super::route::{Category, Endpoint, Route};
use crate::clock::Millis;
use crate::http::response::Response;
use crate::settings::RateLimit;

const WINDOW: Millis = 60_000;

#[derive(Default)]
pub struct Limiter {
    windows: HashMap<(IpAddr, Endpoint), (Millis, u32)>,
}

pub struct Window {
    limit: u32,
    remaining: u32,
    pub reset_seconds: u64,
    pub exceeded: bool,
}

impl Limiter {
    /// Counts one request; `None` if its route is not limited.
    pub fn hit(
        &mut self,
        limits: Option<&RateLimit>,
        endpoint: &Endpoint,
        from: IpAddr,
        now: Millis,
    ) -> Option<Window> {
        let limit = limit(limits?, endpoint)?;
        let (opened, count) = self.windows.entry((from, endpoint.pattern())).or_insert((now, 0));
        if now >= *opened + WINDOW {
            (*opened, *count) = (now, 0);
        }
        *count += 1;
        Some(Window {
            limit,
            remaining: limit.saturating_sub(*count),
            reset_seconds: (*opened + WINDOW - now).div_ceil(1000),
            exceeded: *count > limit,
        })
    }
}

/// The route's own limit, otherwise its category's.
fn limit(limits: &RateLimit, endpoint: &Endpoint) -> Option<u32> {
    let own = match endpoint.route() {
        Route::List => limits.list,
        Route::Get => limits.get,
        Route::Login => limits.login,
        Route::Imports => limits.imports,
        _ => None,
    };
    own.or(match endpoint.category()? {
        Category::Read => limits.read,
        Category::Write => limits.write,
        Category::Secret => limits.secret,
    })
}

impl Window {
    pub fn announce(&self, response: Response) -> Response {
        response
            .with_header("x-ratelimit-limit", self.limit.to_string())
            .with_header("x-ratelimit-remaining", self.remaining.to_string())
            .with_header("x-ratelimit-reset", self.reset_seconds.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Api;

    #[test]
    fn limiter_has_one_window_per_route_that_fills_and_reopens() {
        let limits = RateLimit { secret: Some(2), ..RateLimit::default() };
        let from: IpAddr = "127.0.0.1".parse().unwrap();
        let mut limiter = Limiter::default();
        let list = Endpoint::ListSecrets(Api::V4);
        let get = |key: &str| Endpoint::GetSecret(Api::V4, key.to_owned());
        let mut hit = |endpoint: &Endpoint, now| limiter.hit(Some(&limits), endpoint, from, now);
        assert!(!hit(&list, 0).unwrap().exceeded);
        assert!(!hit(&list, 1).unwrap().exceeded);
        let third = hit(&list, 30_500).unwrap();
        assert!(third.exceeded);
        assert_eq!(third.reset_seconds, 30);
        assert!(!hit(&get("A"), 30_501).unwrap().exceeded);
        assert!(!hit(&get("B"), 30_502).unwrap().exceeded);
        assert!(hit(&get("C"), 30_503).unwrap().exceeded, "one bucket whatever the name");
        assert!(hit(&Endpoint::Status, 2).is_none());
        assert!(!hit(&list, 60_000).unwrap().exceeded);
    }

    #[test]
    fn route_limit_beats_category_limit() {
        let limits = RateLimit { secret: Some(9), list: Some(1), ..RateLimit::default() };
        assert_eq!(limit(&limits, &Endpoint::ListSecrets(Api::V3)), Some(1));
        assert_eq!(limit(&limits, &Endpoint::CreateBatch(Api::V3)), Some(9));
        assert_eq!(limit(&limits, &Endpoint::Renew), None);
    }
}
