FROM (
  SELECT 'pg_class'::regclass::oid AS class, c.oid, c.relacl AS acl, c.relowner AS owner, (CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char" AS kind FROM pg_class c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL SELECT 'pg_proc'::regclass, p.oid, p.proacl, p.proowner, 'f' FROM pg_proc p
  UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typacl, t.typowner, 'T' FROM pg_type t
  UNION ALL SELECT 'pg_namespace'::regclass, n.oid, n.nspacl, n.nspowner, 'n' FROM pg_namespace n
) o CROSS JOIN LATERAL (
  SELECT array_agg((SELECT coalesce(jsonb_object_agg(w.who, w.privileges), '{}') FROM (
    SELECT CASE a.grantee WHEN o.owner THEN 'owner' WHEN 0 THEN 'public' ELSE 'role ' || pg_get_userbyid(a.grantee) END AS who,
      jsonb_agg(DISTINCT a.privilege_type || CASE WHEN a.is_grantable AND a.grantee <> o.owner THEN '*' ELSE '' END) AS privileges
    FROM aclexplode(v.acl) a GROUP BY 1) w) ORDER BY v.n) AS list
  FROM (VALUES (1, coalesce(o.acl, acldefault(o.kind, o.owner))), (2, acldefault(o.kind, o.owner))) v(n, acl)
) g
WHERE o.class =
