//! What is on the disk: its form, its modes, and what becomes of it when it, or the disk, goes bad.

mod disk;
mod files;
mod keys;
mod rivals;
mod spoiled;
mod syscalls;
mod unreadable;
