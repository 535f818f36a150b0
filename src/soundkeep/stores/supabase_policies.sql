-- Row-level security for the bucket BUCKET, by owner: run it in the project's SQL editor.
--
-- Soundkeep itself needs none of it: its service key stands above these rules. They let people who
-- are signed in with Supabase read, with their own tokens, what lies in the folder of their own id:
-- a store whose `key` begins with {owner}, such as `{owner}/{path}`. Owners must then be named by
-- the id that Supabase gives them. What lies elsewhere (blobs/, tracks/, .soundkeep/) stays closed.

begin;

drop policy if exists "soundkeep BUCKET: owners read what is theirs" on storage.objects;

create policy "soundkeep BUCKET: owners read what is theirs"
on storage.objects for select to authenticated
using (
    bucket_id = 'BUCKET'
    and (storage.foldername(name))[1] = (select auth.uid()::text)
);

-- Nobody writes past Soundkeep, which would not know of it. Who wants that all the same, and
-- registers such objects later, takes the comment off this one:
--
-- drop policy if exists "soundkeep BUCKET: owners add to what is theirs" on storage.objects;
-- create policy "soundkeep BUCKET: owners add to what is theirs"
-- on storage.objects for insert to authenticated
-- with check (
--     bucket_id = 'BUCKET'
--     and (storage.foldername(name))[1] = (select auth.uid()::text)
-- );

commit;
