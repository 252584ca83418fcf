//! Cursors: the extension's own are held by reference; those of the session are protected while another role's SQL runs.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_void};
use std::rc::Rc;

use pgrx::spi::OwnedPreparedStatement;
use pgrx::{Spi, pg_guard, pg_sys};

use crate::pg::errors::SpiResult;
use crate::pg::transaction;
use runtime::error::{Error, Result};

/// A reference to a portal. A name is not enough: other code in the session may close the cursor and declare another one of the same
/// name.
pub struct Cursor {
    portal: pg_sys::Portal,
    open: Rc<Cell<bool>>,
}

impl Cursor {
    /// # Safety
    /// `portal` has just been made.
    pub unsafe fn hold(portal: pg_sys::Portal) -> Self {
        let open = Rc::new(Cell::new(true));
        // SAFETY: the portal's own memory lives as long as the portal, and so does the callback in it, which is called once, when that
        // memory goes. It owns one count of the cell.
        unsafe {
            let context = (*portal).portalContext;
            let callback = pg_sys::MemoryContextAlloc(context, size_of::<pg_sys::MemoryContextCallback>())
                .cast::<pg_sys::MemoryContextCallback>();
            (*callback).func = Some(closed);
            (*callback).arg = Rc::into_raw(open.clone()).cast_mut().cast();
            pg_sys::MemoryContextRegisterResetCallback(context, callback);
        }
        Self { portal, open }
    }

    /// `None` after it was closed: explicitly, or at the end of the transaction or subtransaction that opened it.
    pub fn portal(&self) -> Option<pg_sys::Portal> {
        self.open.get().then_some(self.portal)
    }
}

/// Closes the portal. PostgreSQL drops the iterator of a call that it fetches no more rows from, as under LIMIT. While an error unwinds
/// nothing can be closed; the end of the transaction or subtransaction closes it.
impl Drop for Cursor {
    fn drop(&mut self) {
        let Some(portal) = self.portal() else { return };
        // SAFETY: plain reads; the portal is there. One that does not run and is not pinned can be dropped, which is what SPI does to close
        // it.
        unsafe {
            let closable = (*portal).status != pg_sys::PortalStatus::PORTAL_ACTIVE && !(*portal).portalPinned;
            if closable && transaction::goes_on() {
                pg_sys::PortalDrop(portal, false);
            }
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn closed(argument: *mut c_void) {
    // SAFETY: the count that `hold` gave away, taken back once.
    unsafe { Rc::from_raw(argument.cast_const().cast::<Cell<bool>>()) }.set(false);
}

/// Protects the session's cursors from the SQL that runs meanwhile: they are marked as active, so that it can neither read nor close them.
/// Dropping it restores them.
pub struct Shield(Vec<Shielded>);

struct Shielded {
    name: CString,
    portal: pg_sys::Portal,
    status: pg_sys::PortalStatus::Type,
}

impl Shield {
    pub fn raise() -> Result<Self> {
        let mut shield = Self(Vec::new());
        for name in names()? {
            // SAFETY: a look-up by name; what it finds is there.
            unsafe {
                let portal = pg_sys::GetPortalByName(name.as_ptr());
                if !portal.is_null() && (*portal).status != pg_sys::PortalStatus::PORTAL_ACTIVE {
                    shield.0.push(Shielded { name, portal, status: (*portal).status });
                    (*portal).status = pg_sys::PortalStatus::PORTAL_ACTIVE;
                }
            }
        }
        Ok(shield)
    }

    /// Closes cursors that were opened since and left open.
    pub fn close_others(&self) -> Result<()> {
        for name in names()? {
            if self.0.iter().any(|shielded| shielded.name == name) {
                continue;
            }
            // SAFETY: a look-up by name; a portal that does not run can be closed.
            unsafe {
                let portal = pg_sys::GetPortalByName(name.as_ptr());
                if !portal.is_null() && (*portal).status != pg_sys::PortalStatus::PORTAL_ACTIVE {
                    pg_sys::SPI_cursor_close(portal);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        for Shielded { name, portal, status } in &self.0 {
            // SAFETY: a look-up that raises nothing. A portal taken for running cannot have been closed, but for the end of the
            // transaction, after which the name leads nowhere.
            unsafe {
                let found = pg_sys::GetPortalByName(name.as_ptr());
                if std::ptr::eq(found, *portal) && (*found).status == pg_sys::PortalStatus::PORTAL_ACTIVE {
                    (*found).status = *status;
                }
            }
        }
    }
}

/// The names of the session's cursors, without the portal of the client's own statement.
fn names() -> Result<Vec<CString>> {
    thread_local! {
        static PLAN: RefCell<Option<OwnedPreparedStatement>> = const { RefCell::new(None) };
    }
    Spi::connect(|client| {
        PLAN.with_borrow_mut(|plan| {
            let plan = match plan {
                Some(plan) => plan,
                None => plan.insert(client.prepare("SELECT c.name FROM pg_catalog.pg_cursors c", &[]).spi()?.keep()),
            };
            let names = client.select(&*plan, None, &[]).spi()?.map(|row| {
                let name = row.get::<String>(1).spi()?.unwrap_or_default();
                CString::new(name).map_err(|_| Error::Internal("cursor name contains a zero byte".into()))
            });
            names.collect()
        })
    })
}
