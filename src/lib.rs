//! pg_reco: embedding, importance of training samples, synthetic rows and top-k recommendation inside PostgreSQL.

mod pg;
mod service;
mod sql;

mod extension {
    use pgrx::prelude::*;

    ::pgrx::pg_module_magic!(name, version);

    extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
    extension_sql_file!("../sql/models.sql", name = "models", requires = ["catalog"]);
    extension_sql_file!("../sql/embedding.sql", name = "embedding", requires = ["catalog"]);
    extension_sql_file!("../sql/recommendation.sql", name = "recommendation", requires = ["catalog"]);
    extension_sql_file!("../sql/evaluation.sql", name = "evaluation", requires = ["recommendation"]);
    extension_sql_file!("../sql/importance.sql", name = "importance", requires = ["embedding"]);
    extension_sql_file!("../sql/synthesis.sql", name = "synthesis", requires = ["catalog"]);
    extension_sql_file!("../sql/synthesis_interactions.sql", name = "synthesis_interactions", requires = ["catalog"]);
    extension_sql_file!("../sql/stats.sql", name = "stats", requires = ["catalog"]);
    extension_sql_file!("../sql/synthesis_text.sql", name = "synthesis_text", requires = ["catalog"]);
    extension_sql_file!("../sql/prediction.sql", name = "prediction", requires = ["catalog"]);
    extension_sql_file!("../sql/search.sql", name = "search", requires = ["catalog"]);
    extension_sql_file!("../sql/roles.sql", name = "roles", finalize);

    /// Runs when the library is loaded. ONNX Runtime is not: a process loads it when it first runs a model.
    #[pg_guard]
    extern "C-unwind" fn _PG_init() {
        crate::pg::settings::register();
        crate::pg::memory::prepare();
        crate::pg::foreign::register();
        crate::service::preload::register();
        crate::pg::shared::register();
        crate::service::worker::register();
    }
}
