//! The files of psid: formats, modes, damage and failing disks.

mod disk;
mod files;
mod keys;
mod rivals;
mod spoiled;
mod syscalls;
mod unreadable;
