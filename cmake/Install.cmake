# The core as others find it: find_package(fastmax CONFIG) or pkg-config.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fastmax)

install(TARGETS fastmax EXPORT fastmaxTargets COMPONENT core)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT core)
install(EXPORT fastmaxTargets NAMESPACE fastmax:: DESTINATION ${package_dir} COMPONENT core)

# Whoever links the static library links what it uses; a shared one brings that itself.
get_target_property(library_type fastmax TYPE)
if(library_type STREQUAL STATIC_LIBRARY)
  set(FASTMAX_DEPENDENCIES "find_dependency(hwy 1.0.3)\nfind_dependency(Threads)")
  set(FASTMAX_PC_PRIVATE "")
else()
  set(FASTMAX_DEPENDENCIES "")
  set(FASTMAX_PC_PRIVATE ".private")
endif()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/fastmaxConfig.cmake.in
  ${PROJECT_BINARY_DIR}/fastmaxConfig.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fastmaxConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fastmaxConfig.cmake ${PROJECT_BINARY_DIR}/fastmaxConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT core)

file(RELATIVE_PATH prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${PROJECT_SOURCE_DIR}/cmake/fastmax.pc.in ${PROJECT_BINARY_DIR}/fastmax.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fastmax.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT core)
