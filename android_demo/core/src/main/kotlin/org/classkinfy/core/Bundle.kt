package org.classkinfy.core

import java.io.File
import java.io.FileInputStream
import java.io.IOException

/**
 * A bundle's folder whose every pinned file matched its hash when it was opened.
 *
 * [read] hashes the very bytes that it returns, so what a runtime gets is what the manifest pins even
 * if the disk changed meanwhile.
 */
class Bundle private constructor(
    @JvmField val folder: File,
    @JvmField val manifest: Manifest,
    @JvmField val sha256: String,
    @JvmField val signer: Signer,
) {
    /**
     * The bytes of a pinned file.
     *
     * @throws BundleException it is not pinned, is missing, or was changed
     */
    fun read(path: String): ByteArray {
        val entry = manifest.files[path] ?: throw badBundle("the manifest pins no file '$path'")
        val file = plain(folder, path, entry)
        val data = read(file, entry.sizeBytes, path)
        if (sha256(data) != entry.sha256) throw changed(path)
        return data
    }

    private fun check(path: String, entry: FileEntry) {
        val digest = sha256()
        val buffer = ByteArray(1 shl 16)
        try {
            FileInputStream(plain(folder, path, entry)).use { stream ->
                while (true) {
                    val count = stream.read(buffer)
                    if (count < 0) break
                    digest.update(buffer, 0, count)
                }
            }
        } catch (error: IOException) {
            throw badBundle("$path cannot be read: ${error.message}", cause = error)
        }
        if (hex(digest.digest()) != entry.sha256) throw changed(path)
    }

    companion object {
        const val MANIFEST = "manifest.json"
        const val SEAL = "manifest.json.sha256"
        const val SIGNATURE = "manifest.json.sig"
        private const val MAX_MANIFEST_BYTES = 16L shl 20
        private const val MAX_SMALL_BYTES = 16L shl 10

        /**
         * Open a bundle, and check its signature and every file that it pins.
         *
         * @param trusted public keys, as of [Options.trustedKeys]
         * @throws BundleException it is no bundle, was changed, is too new, or is not signed as asked
         */
        @JvmStatic
        @JvmOverloads
        @Throws(BundleException::class)
        fun open(folder: File, trusted: List<String> = emptyList()): Bundle {
            val data = small(folder, MANIFEST, MAX_MANIFEST_BYTES) ?: throw badBundle(
                "$folder is not a bundle: it has no $MANIFEST", "give the folder that the export wrote",
            )
            val sha256 = sha256(data)
            val seal = small(folder, SEAL, MAX_SMALL_BYTES)?.let { String(it, Charsets.ISO_8859_1) }
            if (seal?.take(sha256.length) != sha256) {
                throw badBundle("$MANIFEST was changed: its SHA-256 is not that in $SEAL")
            }
            val signer = Signer.of(data, small(folder, SIGNATURE, MAX_SMALL_BYTES), trusted)
            val bundle = Bundle(folder, Manifest.parse(data), sha256, signer)
            for ((path, entry) in bundle.manifest.files) bundle.check(path, entry)
            return bundle
        }

        private fun small(folder: File, name: String, most: Long): ByteArray? {
            val file = File(folder, name)
            if (!file.isFile) return null
            checkInside(folder, file, name)
            val size = file.length()
            if (size > most) throw badBundle("$name has $size bytes, which no bundle needs")
            return read(file, size, name)
        }

        private fun plain(folder: File, path: String, entry: FileEntry): File {
            val file = File(folder, path)
            if (!file.isFile) throw badBundle("$path is missing")
            checkInside(folder, file, path)
            if (file.length() != entry.sizeBytes) {
                throw badBundle("$path has ${file.length()} bytes, the manifest says ${entry.sizeBytes}")
            }
            return file
        }

        /** A link could point out of the bundle, at bytes that change after they were checked. */
        private fun checkInside(folder: File, file: File, path: String) {
            if (!file.canonicalPath.startsWith(folder.canonicalPath + File.separator)) {
                throw badBundle("$path leads out of the bundle")
            }
        }

        private fun read(file: File, size: Long, name: String): ByteArray {
            val data = ByteArray(size.toInt())
            var at = 0
            try {
                FileInputStream(file).use { stream ->
                    while (at < data.size) {
                        val count = stream.read(data, at, data.size - at)
                        if (count < 0) break
                        at += count
                    }
                }
            } catch (error: IOException) {
                throw badBundle("$name cannot be read: ${error.message}", cause = error)
            }
            if (at != data.size) throw changed(name)
            return data
        }

        private fun changed(name: String) = badBundle("$name was changed: its SHA-256 is not the manifest's")
    }
}
