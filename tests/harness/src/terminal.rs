//! A program at a terminal: its standard streams are a pseudo-terminal, which the test reads and types into.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use parking_lot::{Condvar, Mutex};

/// How long a person waits: a whole command may run between two questions.
const LIMIT: Duration = Duration::from_secs(120);

/// A program that runs at a terminal.
pub struct TerminalSession {
    child: Child,
    keyboard: File,
    screen: Arc<Screen>,
    reader: Option<JoinHandle<()>>,
    /// How far the screen was looked at.
    seen: usize,
}

/// What the program wrote, and the echo of what was typed.
#[derive(Default)]
struct Screen {
    text: Mutex<(String, bool)>,
    grew: Condvar,
}

impl TerminalSession {
    /// Starts a program.
    pub fn start(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let terminal = || pty.slave.try_clone().unwrap();
        let child =
            command.stdin(terminal()).stdout(terminal()).stderr(terminal()).spawn().unwrap();
        // The command holds the last ends of the terminal besides the child's.
        drop(command);
        drop(pty.slave);
        let mut display = File::from(pty.master);
        let keyboard = display.try_clone().unwrap();
        let screen = Arc::new(Screen::default());
        let sink = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO: no program has the terminal any more.
            while let Ok(count @ 1..) = display.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).replace('\r', "");
                sink.text.lock().0.push_str(&text);
                sink.grew.notify_all();
            }
            sink.text.lock().1 = true;
            sink.grew.notify_all();
        });
        Self { child, keyboard, screen, reader: Some(reader), seen: 0 }
    }

    /// Waits until the screen shows this, after what was waited for before.
    #[track_caller]
    pub fn expect(&mut self, words: &str) {
        let start = Instant::now();
        let mut text = self.screen.text.lock();
        loop {
            if let Some(at) = text.0[self.seen..].find(words) {
                self.seen += at + words.len();
                return;
            }
            let left = LIMIT.checked_sub(start.elapsed());
            let (Some(left), false) = (left, text.1) else {
                panic!("the terminal never showed '{words}':\n{}", text.0);
            };
            self.screen.grew.wait_for(&mut text, left);
        }
    }

    /// Waits for a question, and types a line.
    #[track_caller]
    pub fn answer(&mut self, question: &str, line: &str) {
        self.expect(question);
        // A hidden line is typed once the echo is off: what was typed before is discarded.
        writeln!(self.keyboard, "{line}").unwrap();
    }

    /// All that was shown so far.
    pub fn screen(&self) -> String {
        self.screen.text.lock().0.clone()
    }

    /// Kills the program.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the program's end; its exit code, and all that was shown.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status.code().unwrap_or(-1), self.screen())
    }
}
