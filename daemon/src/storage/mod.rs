//! Files on disk: the cache file and its payload, the boot id and the failed logins.

pub(crate) mod boot_id;
pub(crate) mod cache_file;
pub(crate) mod failed_logins;
pub(crate) mod payload;
