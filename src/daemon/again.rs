//! What SIGHUP does: the event file is opened again, and what of the configuration holds without a restart is read again.

use std::path::PathBuf;
use std::sync::Arc;

use super::notices::Notices;
use super::roster;
use super::shared::Shared;
use crate::config::{self, Config};
use crate::engine::event::{Body, Reload};
use crate::events::EventWriter;

/// Whoever is told of a new configuration.
pub struct Again<'a> {
    config: &'a Config,
    shared: &'a Arc<Shared>,
    writer: &'a EventWriter,
    notices: Notices,
    /// The file that was read last. That it is gone is a fault: nobody takes alerts away by losing them.
    read: Option<PathBuf>,
    /// The file was wrong when it was read last.
    misread: bool,
}

impl<'a> Again<'a> {
    /// Nothing is done before it is asked for. The alerts end with it.
    pub fn new(
        config: &'a Config,
        shared: &'a Arc<Shared>,
        writer: &'a EventWriter,
        notices: Notices,
    ) -> Again<'a> {
        Again { read: config.read.clone(), config, shared, writer, notices, misread: false }
    }

    /// Does it.
    pub fn read(&mut self) {
        self.writer.reopen();
        self.sections();
        if let Some(path) = &self.config.events {
            let what = path.display().to_string();
            self.shared.event(Body::Reload(Reload { what, lists: None, asked: None }));
        }
    }

    /// Treats containers and tells alerts by the file as it is now; a fault in it leaves everything as it was.
    fn sections(&mut self) {
        match config::load_sections(self.config, self.read.as_deref()) {
            Ok(sections) => {
                self.read = sections.read;
                self.shared.roster.put_always(roster::Note::Sections(sections.containers));
                self.notices.set(&sections.alerts);
                if std::mem::take(&mut self.misread) {
                    let message = "the configuration is read again".to_owned();
                    self.shared.report_health("config", true, message);
                }
            }
            Err(error) => {
                self.misread = true;
                let message =
                    format!("the configuration is not read again, the old one holds: {error:#}");
                self.shared.report_health("config", false, message);
            }
        }
    }
}
