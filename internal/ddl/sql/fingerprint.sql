pg_catalog.md5(CASE WHEN pg_catalog.getdatabaseencoding() = 'SQL_ASCII' THEN pg_catalog.textsend(f.text) ELSE pg_catalog.convert_to(f.text, 'UTF8') END)
FROM pg_catalog.pg_class c CROSS JOIN LATERAL (SELECT pg_catalog.concat_ws(E'\n',
  c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
  (SELECT 'options ' || pg_catalog.string_agg(o, ',' ORDER BY o) FROM pg_catalog.unnest(c.reloptions) o),
  (SELECT 'access method ' || a.amname::text FROM pg_catalog.pg_am a WHERE a.oid = c.relam),
  CASE WHEN c.reloftype <> 0 THEN 'of ' || pg_catalog.format_type(c.reloftype, NULL) END,
  CASE WHEN c.relkind = 'p' THEN 'partitioned ' || pg_catalog.pg_get_partkeydef(c.oid) END,
  CASE WHEN c.relispartition THEN 'bound ' || pg_catalog.pg_get_expr(c.relpartbound, c.oid) END,
  CASE WHEN c.relkind IN ('v', 'm') THEN 'query ' || pg_catalog.pg_get_viewdef(c.oid) END,
  (SELECT pg_catalog.concat_ws(' ', 'sequence', s.seqtypid::pg_catalog.regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)
    FROM pg_catalog.pg_sequence s WHERE s.seqrelid = c.oid),
  (SELECT 'inherits ' || pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::text, ',' ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i
    WHERE i.inhrelid = c.oid AND c.relkind IN ('r', 'p', 'f')),
  (SELECT 'server ' || s.srvname::text FROM pg_catalog.pg_foreign_table t JOIN pg_catalog.pg_foreign_server s ON s.oid = t.ftserver WHERE t.ftrelid = c.oid),
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', 'column', pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod),
      CASE WHEN a.attnotnull THEN 'not null' END, CASE WHEN a.attidentity <> '' THEN 'identity ' || a.attidentity::text END,
      CASE WHEN a.attgenerated <> '' THEN 'generated ' || a.attgenerated::text END,
      CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || (SELECT pg_catalog.concat_ws('.', n.nspname, l.collname)
        FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) END,
      'storage ' || a.attstorage::text, 'compression ' || a.attcompression::text, 'statistics ' || coalesce(a.attstattarget, -1),
      (SELECT 'options ' || pg_catalog.string_agg(o, ',' ORDER BY o) FROM pg_catalog.unnest(a.attoptions) o),
      (SELECT 'default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum),
      (SELECT 'comment ' || m.description FROM pg_catalog.pg_description m WHERE m.objoid = c.oid AND m.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND m.objsubid = a.attnum)
    ), E'\n' ORDER BY a.attname) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'S'),
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.pg_get_indexdef(i.indexrelid), i.indisreplident, i.indisvalid), E'\n' ORDER BY n.relname)
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class n ON n.oid = i.indexrelid WHERE i.indrelid = c.oid),
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', 'constraint', pg_catalog.quote_ident(o.conname),
      pg_catalog.translate(pg_catalog.pg_get_constraintdef(o.oid), CASE o.contype WHEN 'c' THEN '()' ELSE '' END, '')), E'\n' ORDER BY o.conname)
    FROM pg_catalog.pg_constraint o WHERE o.conrelid = c.oid AND o.conparentid = 0 AND NOT (o.contype = 'n' AND o.coninhcount > 0)),
  (SELECT pg_catalog.string_agg(pg_catalog.pg_get_triggerdef(g.oid), E'\n' ORDER BY g.tgname)
    FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgparentid = 0),
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.pg_get_ruledef(r.oid), r.ev_enabled), E'\n' ORDER BY r.rulename)
    FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', 'policy', pg_catalog.quote_ident(p.polname), p.polcmd, p.polpermissive,
      (SELECT pg_catalog.string_agg(coalesce(r.rolname, 'public'), ',' ORDER BY r.rolname) FROM pg_catalog.unnest(p.polroles) o LEFT JOIN pg_catalog.pg_roles r ON r.oid = o),
      pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)), E'\n' ORDER BY p.polname)
    FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid),
  (SELECT pg_catalog.string_agg(pg_catalog.pg_get_statisticsobjdef(s.oid), E'\n' ORDER BY s.stxname) FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid),
  (SELECT 'comment ' || m.description FROM pg_catalog.pg_description m WHERE m.objoid = c.oid AND m.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND m.objsubid = 0)
) AS text) f
