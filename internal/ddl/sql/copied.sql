SELECT x.type, x.name, x.sql, x.comment FROM (
  SELECT 'index' AS type, n.relname::text AS name, CASE WHEN o.oid IS NULL THEN pg_catalog.pg_get_indexdef(i.indexrelid) END AS sql, pg_catalog.obj_description(i.indexrelid, 'pg_class') AS comment
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class n ON n.oid = i.indexrelid
    LEFT JOIN pg_catalog.pg_constraint o ON o.conindid = i.indexrelid AND o.conrelid = c.oid AND o.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = c.oid
  UNION ALL SELECT 'statistics', s.stxname, pg_catalog.pg_get_statisticsobjdef(s.oid), pg_catalog.obj_description(s.oid, 'pg_statistic_ext')
    FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid
  UNION ALL SELECT 'constraint', o.conname, NULL, pg_catalog.obj_description(o.oid, 'pg_constraint') FROM pg_catalog.pg_constraint o WHERE o.conrelid = c.oid
  UNION ALL SELECT 'column', a.attname, NULL, pg_catalog.col_description(c.oid, a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
) x WHERE x.sql IS NOT NULL OR x.comment IS NOT NULL
