//! What lies on the disk: the cache file, its payload, the boot mark and remembered refusals.

pub mod boot_id;
pub mod cache_file;
pub mod payload;
pub mod refusals;
