//! What lies on the disk: the cache file, its payload, the boot mark and remembered refusals.

pub(crate) mod boot_id;
pub(crate) mod cache_file;
pub(crate) mod failed_logins;
pub(crate) mod payload;
