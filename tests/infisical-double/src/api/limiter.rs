//! Fixed windows of one minute for each client address, as `@fastify/rate-limit` keeps them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::route::Category;
use crate::clock::Millis;
use crate::http::response::Response;
use crate::settings::RateLimit;

const WINDOW: Millis = 60_000;

#[derive(Default)]
pub struct Limiter {
    windows: HashMap<(IpAddr, Category), (Millis, u32)>,
}

pub struct Window {
    limit: u32,
    remaining: u32,
    pub reset_seconds: u64,
    pub exceeded: bool,
}

impl Limiter {
    /// Counts one request; `None` where its category is not limited.
    pub fn hit(
        &mut self,
        limits: Option<&RateLimit>,
        category: Category,
        from: IpAddr,
        now: Millis,
    ) -> Option<Window> {
        let limits = limits?;
        let limit = match category {
            Category::Read => limits.read,
            Category::Write => limits.write,
            Category::Secret => limits.secret,
        }?;
        let (opened, count) = self.windows.entry((from, category)).or_insert((now, 0));
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

    #[test]
    fn a_window_fills_and_reopens() {
        let limits = RateLimit { secret: Some(2), ..RateLimit::default() };
        let from: IpAddr = "127.0.0.1".parse().unwrap();
        let mut limiter = Limiter::default();
        let mut hit = |category, now| limiter.hit(Some(&limits), category, from, now);
        assert!(!hit(Category::Secret, 0).unwrap().exceeded);
        assert!(!hit(Category::Secret, 1).unwrap().exceeded);
        let third = hit(Category::Secret, 30_500).unwrap();
        assert!(third.exceeded);
        assert_eq!(third.reset_seconds, 30);
        assert!(hit(Category::Read, 2).is_none());
        assert!(!hit(Category::Secret, 60_000).unwrap().exceeded);
    }
}
